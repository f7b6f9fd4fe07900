#!/bin/sh
# The runtime knows instructions, not strategies: no word of a strategy stands in the step loop, the executor, the compute
# back ends or the communication, code and comments alike. Left out are src/train/start.c, which calls the compiler on rank 0
# before the first step, and src/train/predict.[ch], which times what it made. Prints TAP: the tree, then lines that must be
# caught, and some that must not.
tree=${1:-${top_srcdir:-.}}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
. "${top_srcdir:-.}/tests/tap.sh" || exit 99

# Words that mean nothing but a strategy, in any case, also as parts of names (run_1f1b).
words='pipeline[ds]?|pipelining|stages?|1f1b|gpipe|dualpipev?|interleav(ed|ing|e)|zero[ -]bubble|bubbles?|zb[-_]?(h1|h2|v)'
words="$words|zero[-_]?[123]|fsdp|ddp|megatron|deepspeed|strategy|strategies|recomputes?|prefetch(ed|ing)?"
words="$words|(data|expert|tensor|sequence|context|model)[ -]parallel(ism)?"
# Words that mean something else in capitals, or as a pragma; "PP" is a tag looked for by its name.
exact='ZeRO|(^|[^[:alpha:]])(layout|schedule)s?([^[:alpha:]]|$)|"(PP|EP|DP|TP|MB)"'
# The level at which a bucket is sharded is read in src/exec/bucket_view.c alone, which tells the others what a rank holds.
level='(->|\.)zero\>'
# Sentences that say what is not known.
innocent='#pragma omp|(__builtin|_mm)_prefetch|neither the graph nor strategies|independent of the strategy'

# scan FILE...: the lines that name a strategy.
scan()
{
    { grep -niE "(^|[^[:alnum:]])($words)([^[:alnum:]]|\$)" "$@"; grep -nE "$exact" "$@"; grep -nE "$level" "$@" | grep -v '^src/exec/bucket_view\.c:'; } |
        grep -vE "$innocent" | sort -u
}

cd "$tree" || exit 99
set -- src/exec/*.[ch] src/base/number.h src/cpu/*.[ch] comm/*.[ch]
for file in src/train/*.[ch]; do
    case $file in
    src/train/start.c | src/train/predict.[ch]) ;;
    *) set -- "$@" "$file" ;;
    esac
done
[ ! -d src/cuda ] || set -- "$@" src/cuda/*
for file; do
    [ -f "$file" ] || echo "# $file is missing"
done >"$dir/found"
scan "$@" /dev/null >>"$dir/found"
sed 's/^/# /' "$dir/found"
[ ! -s "$dir/found" ]
result "$# files of the runtime, no word of a strategy"

mkdir -p "$dir/src/exec"
cd "$dir" || exit 99
while IFS='|' read -r verdict line; do
    echo "$line" >src/exec/run.c
    scan src/exec/run.c /dev/null >found
    case $verdict in
    caught) [ -s found ] ;;
    *) [ ! -s found ] ;;
    esac
    result "$verdict: $line"
done <<'EOS'
caught|if (stage == 0)
caught|/* the last microbatch of a pipeline stage */
caught|static void run_1f1b(struct exec *x)
caught|/* Interleaved chunks run in rounds. */
caught|case SCHEDULE: schedule_gpipe(x);
caught|if (b->zero >= 2)
caught|/* under ZeRO the gradients are gone */
caught|uint32_t tag = ir_graph_tag(g, "PP");
caught|x->layout = layout;
caught|/* data-parallel ranks add up */
allowed|/* zero until they are first touched */
allowed|#pragma omp parallel for schedule(static)
allowed|/* Layouts: ir/op.h. */
allowed|memset(x, 0, n); /* starts at zero */
EOS
echo "1..$n"
