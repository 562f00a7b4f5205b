#!/usr/bin/env bash
# Brings Fashion-MNIST as Debian's package where that is possible. Where it is not, the example downloads it itself, or says what to do.
set -u
folder=/usr/share/datasets/fashion-mnist
[ -e "$folder/train-images-idx3-ubyte.gz" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "No apt-get here: Fashion-MNIST will be downloaded by the example."
    exit 0
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "Not root: Fashion-MNIST will be downloaded by the example (or: sudo apt-get install dataset-fashion-mnist)."
        exit 0
    fi
    as_root=(sudo -n)
fi
echo "Installing Debian's package dataset-fashion-mnist (30 MB)"
install() { "${as_root[@]}" apt-get install -y -qq dataset-fashion-mnist >/dev/null 2>&1; }
install || { "${as_root[@]}" apt-get update -qq >/dev/null 2>&1; install; } || echo "That did not work: Fashion-MNIST will be downloaded by the example."
exit 0
