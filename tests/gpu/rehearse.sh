#!/bin/sh
# time-limit: 240
# The tests of a real device on the module of tests/cuda/fake: so that their first run on a device is not their first run. Without
# any device they are skipped with a sentence. bench.sh with models of no size, beside a program that prints what llm.c prints.
# Prints TAP.
src=${top_srcdir:-.} build=${top_builddir:-.}
fake=$build/tests/cuda/.libs/piper_fake.so
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
out=$dir/out
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=$out

# the runner of make check-gpu: good, not good, left out
check()
{
    top_srcdir=$src top_builddir=$dir/check PIPER_CUDA_MODULE=$fake sh "$src/tests/gpu/check.sh" "$@" >"$out" 2>&1
}
mkdir -p "$dir/check/tests/gpu" && ln -s "$build/tests/gpu/test_ops" "$build/tests/gpu/test_update" "$dir/check/tests/gpu/"
check tests/gpu/test_ops tests/gpu/test_update tests/gpu/peak && grep -q '^PASS tests/gpu/test_ops [1-9]' "$out" &&
    grep -q '^PASS tests/gpu/test_update [1-9]' "$out" && grep -q '2 passed, 0 failed' "$out"
result 'operators and updates on the fake device'
FAKE_CUDA_DEVICES=0 check tests/gpu/test_ops tests/gpu/test_update && [ "$(grep -c '^SKIP .* 1 .*shows no GPU' "$out")" -eq 2 ]
result 'without a device they are skipped'
check
[ $? -eq 2 ] && grep -q '^usage' "$out"
result 'no test is no success'
# a kernel that fails is not passed over
! FAKE_CUDA_FAIL=100 check tests/gpu/test_ops && grep -q '^FAIL tests/gpu/test_ops' "$out" &&
    grep -q 'launch failure' "$dir/check/check-gpu/test_ops.log"
result 'a kernel that fails ends the test'
module=$build/.libs/piper_cuda.so
if [ -f "$module" ]; then # all that it takes from a program is there
    CUDA_VISIBLE_DEVICES='' "$build/tests/gpu/test_products" >"$out" 2>&1
    [ $? -eq 77 ] && ! grep -q 'cannot be loaded' "$out"
    result "the module of this build can be loaded: $(tail -n 1 "$out")"
fi

# llm.c's program as far as bench.sh sees it: it looks at what it is given, and prints the lines of llm.c
mkdir "$dir/llm.c" "$dir/bench"
cat >"$dir/llm.c/train_gpt2cu" <<'SH'
#!/bin/sh
while [ $# -gt 1 ]; do
    case $1 in -i) data=$2 ;; -x) steps=$2 ;; -b) batch=$2 ;; -t) length=$2 ;; -r | -z | -s) [ "$2" = 0 ] || exit 1 ;; esac
    shift 2
done
echo "first words: $(od -An -td4 -N16 "$data") tokens: $(od -An -tu2 -j1024 -N8 "$data")"
echo "$((256 * 2 + $(od -An -td4 -j8 -N4 "$data"))) words of $(wc -c <"$data") bytes, $((batch * length)) a step"
echo '| peak TFlops           | 989.0                                              |'
i=0
while [ $((i += 1)) -le "$steps" ]; do
    ms=$((i * 100)).50
    [ $i -gt $((steps / 2)) ] || ms=9999.00
    echo "step    $i/$steps | loss 10.9497$i (+nanz)| norm 23.0551 (-1.40z)| lr 1.00e-04 | $ms ms | 37.5% bf16 MFU | 245000 tok/s"
done
echo 'val loss 10.8'
echo 'total average iteration time: 350.5 ms'
SH
chmod +x "$dir/llm.c/train_gpt2cu"
(
    cd "$dir/bench" && PIPER_CUDA_MODULE=$fake PIPER=${PIPER:-$build/piper} PEAK_PROGRAM=$build/tests/cuda/peak LLMC=../llm.c \
        PEAK=989e12 BANDWIDTH=3.35e12 SMALL=1 sh "$src/tests/gpu/bench.sh"
) >"$out" 2>&1
result 'bench.sh writes its table'
table=$dir/bench/RESULTS.md
cp "$table" "$out"
number='[0-9][0-9.]*'
grep -qE "^\| gpt2-124M \| 2 x 16 \| $number \| $number% \| $number \| $number \| $number \|$" "$table" &&
    grep -qE "^\| bfloat16 products, measured \| ${number}e[+]$number flop/s" "$table" &&
    grep -qE "^\| device memory, measured .* ${number}e[+]$number bytes/s" "$table" &&
    grep -q 'embed..head' "$table" && ! grep -q 'Nothing has been measured' "$table"
result 'ours is in it: rates, floors, where the time goes'
# steps 3 and 4 of 4 count: 300.5 and 400.5 ms for 32 tokens
grep -q '^| llm.c, gpt2-124M | 2 x 16 | 91 | .* | 0.3505 |' "$table" &&
    awk -F'|' '/^. gpt2-124M . 2/ { a = $4 } /tokens.s of this program over/ { sub(/.*: /, ""); r = $1 }
        END { exit !(r > 0.97 * a / 91.3 && r < 1.03 * a / 91.3) }' "$table"
result "llm.c's is in it, and the ratio"
cp "$dir/bench/bench/llmc.log" "$out"
grep -q '^first words:  *20240520  *1  *19490  *0 tokens:  *108  *105  *110  *101$' "$out" &&
    grep -q '^20002 words of 40004 bytes, 32 a step$' "$out"
result "the text is given to llm.c in its format"
# the file that waits to be filled has the rows that bench.sh fills
names()
{
    grep -E '^(#|\|)' "$1" | grep -v 'tests/gpu' | sed 's/^\(| [^|]*|\).*/\1/; s/^# .*/#/'
}
names "$src/tests/gpu/RESULTS.md" >"$dir/a" && names "$table" >"$dir/b" && diff "$dir/a" "$dir/b" >"$out" && [ -s "$dir/a" ]
result 'RESULTS.md has the rows of the table'
echo "1..$n"
