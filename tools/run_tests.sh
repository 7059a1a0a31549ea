#!/usr/bin/env bash
# run_tests.sh [PRESET...] - builds presets, runs their tests, and sums them all up.
#
# Without arguments: every test in `dev`, then those labels again in `asan` and `tsan` that
# say something new there.  The last line is always `N passed, N failed`, where a skipped
# or disabled test and a preset that does not build count as failed: a test that did not
# run has proved nothing.  The exit status is 0 only when nothing failed.
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
declare -A labels=(
    [dev]='.'
    [asan]='^(unit|contract|fault|golden|fuzz-replay|integration)$'
    [tsan]='^(unit|contract|fault|integration)$'
)
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

# The sanitizers of gcc 12 expect a memory map that is less randomised than recent kernels
# make it; where this is allowed, their tests run without address randomisation.
sanitizer_launcher=()
if setarch --addr-no-randomize true 2>/dev/null; then
    sanitizer_launcher=(setarch --addr-no-randomize)
fi

# The value of an attribute of the <testsuite> element that ctest writes.
suite_attribute() { grep -om1 "$2=\"[0-9]*\"" "$1" | tr -dc 0-9; }

passed=0
failed=0
run_preset() {
    local preset=$1 results=$PWD/build/$1/results.xml total bad=0 attribute launcher=()
    echo "== $preset"
    rm -f "$results"
    if ! tools/build.sh "$preset"; then
        echo "the preset '$preset' does not build"
        failed=$((failed + 1))
        return
    fi
    if [[ $preset == *san ]]; then
        launcher=("${sanitizer_launcher[@]}")
    fi
    "${launcher[@]}" ctest --test-dir "build/$preset" --parallel 2 --output-on-failure \
        --label-regex "${labels[$preset]:-.}" --output-junit "$results"
    total=$(suite_attribute "$results" tests)
    if [[ ${total:-0} -eq 0 ]]; then
        echo "no test ran in the preset '$preset'"
        failed=$((failed + 1))
        return
    fi
    for attribute in failures disabled skipped; do
        bad=$((bad + $(suite_attribute "$results" "$attribute")))
    done
    passed=$((passed + total - bad))
    failed=$((failed + bad))
}

presets=("$@")
if [[ ${#presets[@]} -eq 0 ]]; then
    presets=(dev asan tsan)
fi
for preset in "${presets[@]}"; do
    run_preset "$preset"
done
mkdir -p build
echo "$passed passed, $failed failed" | tee build/test-summary
[[ $failed -eq 0 && $passed -gt 0 ]]
