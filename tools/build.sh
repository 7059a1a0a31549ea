#!/usr/bin/env bash
# build.sh PRESET [TARGET...] - configures a preset if it is not configured yet and builds
# it, saying nothing when there is nothing to do.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:?usage: tools/build.sh PRESET [TARGET...]}
shift
if [[ ! -f build/$preset/build.ninja ]]; then
    echo "build: configuring the preset '$preset'"
    if ! log=$(cmake --preset "$preset" 2>&1); then
        printf '%s\n' "$log" >&2
        exit 1
    fi
fi
# ninja prints progress for a person and only warnings and errors for anything else.
quiet=--quiet
if [[ -t 1 ]]; then
    quiet=
fi
exec ninja -C "build/$preset" $quiet "$@"
