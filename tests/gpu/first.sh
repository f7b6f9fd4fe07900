#!/bin/sh
# first.sh [ARCHIVE] SECONDS: the first minutes on a machine with a GPU. Unpacks the archive that tests/gpu/pack.sh made, or takes the
# packed folder in which it lies itself, and measures with tests/gpu/bench.sh until so many seconds have passed. Needs a shell, tar and
# an NVIDIA driver; CUDA's libraries where tests/gpu/env.sh looks for them, PyTorch for the gradients.
#
# What is there so far is in the folder OUT (default ./out) after every step: report.txt, RESULTS.md, machine.txt, logs.tar.gz. It
# works in TMPDIR/piper-first-UID; run again it goes on there, with STEPS=NAMES for single steps. Variables: see bench.sh.
begin=$(date +%s)
usage()
{
    echo "usage: first.sh [ARCHIVE] SECONDS${1:+: $1}" >&2
    exit 2
}
case $# in
1) archive='' seconds=$1 ;;
2) archive=$1 seconds=$2 ;;
*) usage ;;
esac
case $seconds in '' | *[!0-9]*) usage "found '$seconds', expected seconds" ;; esac
OUT=${OUT:-$PWD/out}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 1
export OUT # what is written there: bench.sh
work=${TMPDIR:-/tmp}/piper-first-$(id -u)
if [ -z "$archive" ]; then
    pack=$(cd "$(dirname "$0")" && pwd)
    [ -f "$pack/env.sh" ] || pack=$(cd "$(dirname "$0")/../.." && pwd)
    [ -f "$pack/env.sh" ] || usage 'this is no packed folder, so the archive must be named'
    mkdir -p "$work" || exit 1
else
    [ -f "$archive" ] || usage "$archive is not there; tests/gpu/pack.sh makes it where piper is built"
    pack=$work/pack
    # the same archive is unpacked once
    if [ "$(cat "$work/archive" 2>/dev/null)" != "$(cksum <"$archive")" ]; then
        rm -rf "$work" && mkdir -p "$pack" && tar xf "$archive" -C "$pack" --strip-components=1 || exit 1
        cksum <"$archive" >"$work/archive"
    fi
fi
cd "$work" && exec sh "$pack/tests/gpu/bench.sh" $((seconds - $(date +%s) + begin))
