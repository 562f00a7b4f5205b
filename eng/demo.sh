#!/usr/bin/env bash
# Trains a model of conditional branches on Fashion-MNIST: with two processes, with one, and without the flag that allows unused parameters.
# Needs git and the .NET 10 SDK; installs nothing but the data set, where it may. Arguments go to the example (see --help).
set -u
. "$(dirname "${BASH_SOURCE[0]}")/require-sdk.sh"

say "The data set: Fashion-MNIST"
bash eng/install-dataset.sh

say "Build of the example"
dotnet build examples/FashionMnist -c Release -v quiet || exit 1
example() { dotnet run -c Release --no-build --project examples/FashionMnist -- "$@"; }

say "Two processes; each step uses one branch of four on each rank: --devices 2 --strategy ddp_find_unused_parameters_true"
two=$(mktemp)
trap 'rm -f "$two" "${one:-}"' EXIT
example --devices 2 --strategy ddp_find_unused_parameters_true --json "$@" | tee "$two" | grep -v '^{' || true
[ "${PIPESTATUS[0]}" = 0 ] || exit 1

say "One process, the same number of epochs: --devices 1"
one=$(mktemp)
example --devices 1 --json "$@" | tee "$one" | grep -v '^{' || true
[ "${PIPESTATUS[0]}" = 0 ] || exit 1

say "Two processes without the flag: --strategy ddp. This has to fail, and to say what to write"
if example --devices 2 --strategy ddp --max-steps 5 "$@"; then
    echo "It did not fail: that is a defect." >&2
    exit 1
fi

figure() { sed -nE "s/.*\"$2\":([0-9.]+).*/\1/p" "$1"; }
say "Side by side"
printf '%-28s %14s %16s\n' '' 'test accuracy' 'images/s'
printf '%-28s %14s %16s\n' 'two processes, with the flag' "$(figure "$two" test_accuracy)" "$(figure "$two" samples_per_second)"
printf '%-28s %14s %16s\n' 'one process' "$(figure "$one" test_accuracy)" "$(figure "$one" samples_per_second)"
