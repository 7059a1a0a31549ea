#!/usr/bin/env bash
# run_fuzz.sh SECONDS [NAME...] - runs each libFuzzer target built by the preset `fuzz`.
#
# A target starts from fuzz/corpus/NAME, which it only reads.  What it discovers goes to
# build/fuzz/found/NAME; an input that crashes it is kept there as crash-*, and joins the
# corpus together with the fix.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:?usage: tools/run_fuzz.sh SECONDS [NAME...]}
shift
names=("$@")
if [[ ${#names[@]} -eq 0 ]]; then
    for source in fuzz/*_fuzz.c; do
        name=$(basename "$source" _fuzz.c)
        names+=("$name")
    done
fi
status=0
for name in "${names[@]}"; do
    found=build/fuzz/found/$name
    mkdir -p "$found"
    echo "fuzz: $name for $seconds s"
    if ! "build/fuzz/fuzz_$name" -max_total_time="$seconds" -rss_limit_mb=2048 \
        -timeout=10 -verbosity=0 -print_final_stats=1 -artifact_prefix="$found/" \
        "$found" "fuzz/corpus/$name"; then
        echo "fuzz: $name failed; the input is in $found" >&2
        status=1
    fi
done
exit $status
