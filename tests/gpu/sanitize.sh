#!/bin/sh
# time-limit: 7200
# The operators under compute-sanitizer: no access outside of memory, no race in shared memory, no read of what was never written.
# SANITIZE_TOOLS, SANITIZE_TESTS: only these. Prints TAP; 77 without the tool or without a device.
build=${top_builddir:-.} n=0
tool=$(command -v compute-sanitizer || command -v "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer") ||
    { echo 'there is no compute-sanitizer'; exit 77; }
"${PIPER:-$build/piper}" info | grep -q 'cuda  *available' || { echo 'there is no GPU'; exit 77; }
out=$(mktemp) || exit 99
trap 'rm -f "$out"' EXIT
for what in ${SANITIZE_TOOLS:-memcheck racecheck initcheck}; do
    for test in ${SANITIZE_TESTS:-test_ops test_update test_parts test_products}; do
        n=$((n + 1))
        if "$tool" --tool "$what" --error-exitcode 99 "$build/tests/gpu/$test" >"$out" 2>&1; then
            echo "ok $n - $what $test"
        else
            echo "not ok $n - $what $test"
            grep -v ': Passed$' "$out" | tail -n 60 | sed 's/^/# /'
        fi
    done
done
echo "1..$n"
