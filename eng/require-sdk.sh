# Sourced by the other scripts: the repository's root is the working folder, and a .NET 10 SDK is there.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1
if ! command -v dotnet >/dev/null 2>&1 || ! dotnet --version >/dev/null 2>&1; then
    echo "The .NET 10 SDK is needed (global.json names the version). Install it and put 'dotnet' on PATH." >&2
    exit 1
fi

say() { printf '\n== %s\n' "$*"; }
