#!/bin/sh
# check-runtime.sh [TREE]: the runtime knows instructions, not strategies. Fails when a word of a strategy stands in the
# executor, the compute back ends or the communication.
tree=${1:-${top_srcdir:-.}}
words='pipeline|pipelined|stage|stages|1f1b|gpipe|interleaved|zero-bubble|zb-h1|zb-h2|zb-v|dualpipe|dualpipev|ZeRO|fsdp|ddp|layout|schedule|strategy|strategies'
cd "$tree" || exit 99
set -- src/exec*.[ch] src/cpu/*.[ch] comm/*.[ch]
[ -f "$1" ] || { echo "no executor under $tree"; exit 1; }

# not meant: OpenMP's schedule clause, and comm.h's sentence about what it does not know
if grep -nwE "$words" "$@" | grep -vE '#pragma omp|neither the graph nor strategies'; then
    echo 'the lines above name a strategy; the runtime runs instructions and must not know what they are for'
    exit 1
fi
echo "$# files, no word of a strategy"
