#!/usr/bin/env bash
# Brings Open MPI as Debian's package where that is possible. Where it is not, the tests that need mpirun are skipped.
set -u
command -v mpirun >/dev/null 2>&1 && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "No apt-get and no mpirun here: tests that need mpirun will be skipped."
    exit 0
fi
as_root=()
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "Not root: tests that need mpirun will be skipped (or: sudo apt-get install openmpi-bin)."
        exit 0
    fi
    as_root=(sudo -n)
fi
echo "Installing Debian's package openmpi-bin"
install() { "${as_root[@]}" apt-get install -y -qq --no-install-recommends openmpi-bin >/dev/null 2>&1; }
install || { "${as_root[@]}" apt-get update -qq >/dev/null 2>&1; install; } || echo "That did not work: tests that need mpirun will be skipped."
exit 0
