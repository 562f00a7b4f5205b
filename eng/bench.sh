#!/usr/bin/env bash
# Runs the benchmarks with two ranks: tables on the terminal, JSON lines in artifacts/benchmarks/. A few minutes, on a machine that does nothing else.
set -eu
. "$(dirname "${BASH_SOURCE[0]}")/require-sdk.sh"
mkdir -p artifacts/benchmarks
say "Build"
dotnet build benchmarks/FabricSharp.Scaling -c Release -v quiet
bench() { dotnet run -c Release --no-build --project benchmarks/FabricSharp.Scaling -- "$@"; }

say "This machine"
bench machine | tee artifacts/benchmarks/machine.json
say "A training step: DDP over independent copies"
bench ddp --ranks 2 >artifacts/benchmarks/ddp.jsonl
say "All-reduce of float32"
bench all-reduce --ranks 2 >artifacts/benchmarks/all-reduce.jsonl
say "Start: from the process to the end of the first step"
bench start --ranks 2 >artifacts/benchmarks/start.jsonl
say "Checkpoints: saving and loading 500 MB"
bench checkpoint >artifacts/benchmarks/checkpoint.jsonl
