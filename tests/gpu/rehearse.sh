#!/bin/sh
# time-limit: 240
# The tests of a real device on the module of tests/cuda/fake: so that their first run on a device is not their first run. Without
# any device they are skipped with a sentence. Prints TAP.
build=${top_builddir:-.} n=0
fake=$build/tests/cuda/.libs/piper_fake.so
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
out=$dir/out

result()
{
    status=$?
    n=$((n + 1))
    if [ $status -eq 0 ]; then
        echo "ok $n - $1"
    else
        echo "not ok $n - $1"
        grep -v ': Passed$' "$out" | head -n 20 | sed 's/^/# /'
    fi
}
for test in ops update; do
    PIPER_CUDA_MODULE=$fake "$build/tests/gpu/test_$test" >"$out" 2>&1 && grep -q . "$out"
    result "test_$test on the fake device"
    FAKE_CUDA_DEVICES=0 PIPER_CUDA_MODULE=$fake "$build/tests/gpu/test_$test" >"$out" 2>&1
    [ $? -eq 77 ] && grep -q 'shows no GPU' "$out"
    result "test_$test without a device is skipped"
done
# a kernel that fails is not passed over
! FAKE_CUDA_FAIL=100 PIPER_CUDA_MODULE=$fake "$build/tests/gpu/test_ops" >"$out" 2>&1 && grep -q 'launch failure' "$out"
result "a kernel that fails ends the test"
echo "1..$n"
