#!/usr/bin/env bash
# Runs the tests that need NVIDIA GPUs, and prints which ran and which were skipped, with the reason.
# Needs an NVIDIA driver and TorchSharp's CUDA package (fetched by the build; some GB). Without a GPU everything is skipped.
# Usage: eng/gpu-check.sh [--cpu-package]    (--cpu-package: build with the CPU package, to see the skips)
set -u
. "$(dirname "${BASH_SOURCE[0]}")/require-sdk.sh"

package=TorchSharp-cuda-linux
if [ "${1:-}" = --cpu-package ]; then
    package=TorchSharp-cpu
elif command -v nvidia-smi >/dev/null 2>&1; then
    say "GPUs"
    nvidia-smi --query-gpu=index,name,driver_version,memory.total --format=csv
else
    echo "There is no nvidia-smi on the path: without an NVIDIA driver every test is skipped. Building with the CPU package." >&2
    package=TorchSharp-cpu
fi

say "Build with $package"
dotnet build -c Release tests/FabricSharp.Tests "-p:TorchPackage=$package" || { echo "The build failed." >&2; exit 1; }

say "Tests of FabricSharp.Tests.Gpu"
log=$(mktemp)
NCCL_DEBUG=${NCCL_DEBUG:-WARN} timeout --kill-after=10 900 \
    dotnet run -c Release --no-build --project tests/FabricSharp.Tests "-p:TorchPackage=$package" -- -noColor -verbose -namespace FabricSharp.Tests.Gpu 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
say "What ran"
grep -E "\[(SKIP|FAIL)\]|Total:" "$log"
grep -A1 -E "\[SKIP\]" "$log" | grep -vE "\[SKIP\]|^--" | sed 's/^ *//' | sort | uniq -c | sed 's/^/skipped:/'
rm -f "$log"
exit "$code"
