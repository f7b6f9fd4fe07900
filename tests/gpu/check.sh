#!/bin/sh
# check.sh TEST...: runs the tests that need a GPU one after the other, each under tests/run-test; of the names given, those of
# programs that are no tests are passed over. `make check-gpu` is this, and so is a packed folder without make. A line each:
#
#     PASS|FAIL|SKIP TEST CASES SECONDS WHY
#
# also in the file summary of the folder CHECK_LOGS (default: check-gpu in the build folder), beside what each test printed. Exit
# status 1 when one failed, 2 when none is named.
src=${top_srcdir:-.} build=${top_builddir:-.}
logs=${CHECK_LOGS:-$build/check-gpu}
[ $# -gt 0 ] || { echo 'usage: check.sh TEST..., as tests/gpu/test_ops' >&2; exit 2; }
mkdir -p "$logs" || exit 99
: >"$logs/summary"
failed=0 passed=0 skipped=0
for test; do
    case $test in
    *.sh) file=$src/$test ;;
    */test_*) file=$build/$test ;;
    *) continue ;;
    esac
    log=$logs/$(basename "$test" .sh).log
    begin=$(date +%s)
    status=0
    sh "$src/tests/run-test" "$file" >"$log" 2>&1 || status=$?
    cases=$(grep -c '^ok ' "$log")
    why=
    if [ "$status" -ne 0 ] || grep -q -e '^not ok' -e '^Bail out!' "$log" || [ "$cases" -eq 0 ]; then
        result=FAIL
        failed=$((failed + 1))
        why=$(grep -m 1 -e '^not ok' -e '^Bail out!' "$log" || tail -n 1 "$log")
    elif [ "$(grep -c '^ok .*# SKIP' "$log")" -eq "$cases" ]; then
        result=SKIP
        skipped=$((skipped + 1))
        why=$(sed -n 's/^ok .*# SKIP //p' "$log" | head -n 1)
    else
        result=PASS
        passed=$((passed + 1))
    fi
    echo "$result $test $cases $(($(date +%s) - begin)) $why" | tee -a "$logs/summary"
done
echo "check-gpu: $passed passed, $failed failed, $skipped skipped; what they printed: $logs/*.log"
[ $failed -eq 0 ]
