# shellcheck shell=sh
# Read by tests of what is refused: a folder with the files of tests/jobs, in which they run, and refused. Prints TAP.
piper=${PIPER:-./piper}
src=$(cd "${top_srcdir:-.}" && pwd) || exit 99
. "$src/tests/tap.sh" || exit 99
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
shown=$dir/shown
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
cp "$src"/tests/jobs/*.json "$dir"
cd "$dir" || exit 99

# refused MODEL SENTENCE DIRECTIVE...: of MODEL.json with train.json, in just these words
refused()
{
    model=$1 want="piper: strategy.json: $2"
    shift 2
    list=
    for d in "$@"; do list="$list${list:+,}$d"; done
    echo "[$list]" >strategy.json
    "$piper" build -m "$model.json" -s strategy.json -t train.json -o bad.h5 >out 2>&1
    code=$?
    grep '^piper: ' out >message
    { echo "expected: $want"; cat out; } >"$shown"
    [ $code -eq 65 ] && [ "$(cat message)" = "$want" ]
    result "$want"
}
