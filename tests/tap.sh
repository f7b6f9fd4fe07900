# shellcheck shell=sh
# Read by tests that print TAP: n counts the cases, failed those that failed; $shown is the file that is shown of one, if
# there is one.
n=0
failed=0
shown=
# result NAME [COMMAND...]: judges the status of the command before it, and has it too. What COMMAND prints ends the name: a
# $(COMMAND) in NAME itself would be the command before it
result()
{
    # shellcheck disable=SC2319 # the status of a condition may be meant
    status=$?
    n=$((n + 1))
    case_name=$1
    shift
    [ $# -eq 0 ] || case_name="$case_name $("$@" 2>/dev/null)"
    if [ $status -eq 0 ]; then
        echo "ok $n - $case_name"
    else
        failed=$((failed + 1))
        echo "not ok $n - $case_name"
        [ ! -f "$shown" ] || sed 's/^/# /' "$shown"
    fi
    return $status
}
# result_limited NAME: so too, of a program under ulimit -v; not of $piper with a sanitizer, which maps terabytes and cannot begin there
result_limited()
{
    # shellcheck disable=SC2319
    status=$?
    if LC_ALL=C grep -q __asan_init "${piper:-}"; then
        n=$((n + 1))
        echo "ok $n - $1 # SKIP ulimit -v, in a build with sanitizers"
    else
        (exit $status)
        result "$1"
    fi
}
