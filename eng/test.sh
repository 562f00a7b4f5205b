#!/usr/bin/env bash
# Builds everything and runs all tests. Needs git and the .NET 10 SDK; installs nothing but the example's data set and Open MPI, where it may.
# Ends with one line: N passed, N failed, N skipped
set -u
. "$(dirname "${BASH_SOURCE[0]}")/require-sdk.sh"

say "The data set of the example"
bash eng/install-dataset.sh
say "MPI"
bash eng/install-mpi.sh

say "Build (warnings are errors)"
dotnet build FabricSharp.slnx -c Release || { echo "The build failed." >&2; echo "0 passed, 1 failed, 0 skipped"; exit 1; }

passed=0 failed=0 skipped=0
run_tests() {
    local name=$1 log
    say "$name"
    log=$(mktemp)
    timeout --kill-after=10 1500 dotnet run -c Release --no-build --project "tests/$name" -- -noColor 2>&1 | tee "$log"
    local code=${PIPESTATUS[0]} summary
    summary=$(grep -E "Total: [0-9]+, Errors: [0-9]+, Failed: [0-9]+, Skipped: [0-9]+" "$log" | tail -1)
    rm -f "$log"
    number() { sed -E "s/.*$1: ([0-9]+).*/\1/" <<<"$summary"; }
    if [ -z "$summary" ]; then
        echo "$name ended with code $code and no summary." >&2
        failed=$((failed + 1))
        return
    fi
    local bad=$(( $(number Errors) + $(number Failed) ))
    [ "$code" = 0 ] || [ "$bad" != 0 ] || bad=1
    failed=$((failed + bad))
    skipped=$((skipped + $(number Skipped)))
    passed=$((passed + $(number Total) - $(number Failed) - $(number Skipped)))
}

run_tests FabricSharp.Tests
run_tests FabricSharp.MultiProcess.Tests

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
