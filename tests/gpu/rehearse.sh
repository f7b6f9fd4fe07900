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
FAKE_CUDA_DEVICES=0 check tests/gpu/test_ops tests/gpu/test_update && [ "$(grep -c '^SKIP .* 1 .*has no visible GPU' "$out")" -eq 2 ]
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
    result 'the module of this build can be loaded:' tail -n 1 "$out"
    ldd "$module" >"$out" && ! grep -e libnccl -e libcudnn "$out"
    result 'cuDNN and NCCL are not loaded with it'
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
# a clock that stands still
mkdir "$dir/bin"
cat >"$dir/bin/nvidia-smi" <<'SH'
#!/bin/sh
case $* in
*-lms*) while sleep 0.1; do echo '1980, 612.50, 99, 3201, 55'; done ;;
*driver_version*) echo 580.1 ;;
esac
SH
chmod +x "$dir/bin/nvidia-smi"
# the programs whose library is a stand-in come in the place of those for a device
ln -s "$build/piper" "$build/tests/cuda/test_products" "$dir/check/"
mv "$dir/check/test_products" "$dir/check/tests/gpu/test_products" && ln -s "$build/tests/cuda/peak" "$dir/check/tests/gpu/peak"
# bench STEPS SMALL [SECONDS]
bench()
{
    (
        cd "$dir/bench" && PATH=$dir/bin:$PATH PIPER_CUDA_MODULE=$fake PIPER=$dir/check/piper LLMC=../llm.c PEAK=989e12 \
            BANDWIDTH=3.35e12 SMALL=$2 STEPS=$1 OUT=$dir/out.d sh "$src/tests/gpu/bench.sh" ${3:+"$3"}
    ) >"$out" 2>&1
}
mkdir "$dir/out.d"
bench 'device test_products test_update peak gpt2-124M llm.c qwen3-moe-1B start' 2
result 'bench.sh writes its table'
table=$dir/bench/RESULTS.md
grep -c 'done after' "$dir/bench/report.txt" | grep -qx 8
result 'every step is done'
cp "$table" "$out"
number='[0-9][0-9.]*'
grep -qE "^\| gpt2-124M \| 2 x 16 \| $number \| $number% \| 1980 \| 61[23] \| $number \| $number \| $number \|$" "$table" &&
    grep -qE "^\| qwen3-moe-1B \| 4 x 16 \| $number \| $number% \| " "$table" &&
    grep -qE "^\| bfloat16 products, measured \| ${number}e[+]$number flop/s" "$table" &&
    grep -qE "^\| device memory, measured .* ${number}e[+]$number bytes/s" "$table" &&
    grep -qE "^\| training waited for it, s \| $number" "$table" && grep -q '^| tests/gpu/test_products | PASS | [1-9]' "$table" &&
    grep -q 'embed..head' "$table" && ! grep -q 'Nothing has been measured' "$table"
result 'ours is in it: median, MFU, clock, floors, where the time goes'
[ ! -e "$dir/bench/bench/gpt2-124M/checkpoints" ] && awk -F, 'NR > 1 && $1 > 2 && $1 < 5 { print $6 }' \
    "$dir/bench/bench/gpt2-124M/metrics.csv" | sort -g | awk '{ s += $1 } END { printf "%.4f\n", s / NR }' >"$dir/median" &&
    grep -q "^| gpt2-124M | 2 x 16 | $(cat "$dir/median") |" "$table"
result 'a step is the median of the measured ones, which are not traced; no checkpoint is written'
# steps 3 and 4 of 4 count: 300.5 and 400.5 ms for 32 tokens
grep -q '^| llm.c, gpt2-124M | 2 x 16 | 0.3505 |' "$table" &&
    awk -F'|' '/^. gpt2-124M . 2/ { a = $8 } /tokens.s of this program over/ { sub(/.*: /, ""); r = $1 }
        END { exit !(r > 0.97 * a / 91.3 && r < 1.03 * a / 91.3) }' "$table"
result "llm.c's is in it, and the ratio"
cp "$dir/bench/bench/llmc.log" "$out"
grep -q '^first words:  *20240520  *1  *19490  *0 tokens:  *108  *105  *110  *101$' "$out" &&
    grep -q '^20002 words of 40004 bytes, 32 a step$' "$out"
result "the text is given to llm.c in its format"
# the budget: a step that cannot end in time is not begun, one that is cut leaves what it measured, the others are kept
rm "$dir/bench/report.txt"
(
    cd "$dir/bench/bench" && rm -rf gpt2-124M && sed -i.all '/gpt2-124M/d' facts && PATH=$dir/bin:$PATH PIPER_CUDA_MODULE=$fake \
        PIPER=$dir/check/piper top_srcdir=$src top_builddir=$dir/check SMALL=1000000 \
        timeout -k $((9 * ${TEST_TIME_SCALE:-1})) $((4 + 2 * ${TEST_TIME_SCALE:-1})) \
        sh "$src/tests/gpu/measure.sh" gpt2-124M
) >"$out" 2>&1
[ $? -eq 124 ] && tail -n 1 "$out" | grep -q '^gpt2-124M: ended after step [1-9][0-9]*: [0-9.e-]* s a step$'
result 'a step that is cut:' tail -n 1 "$out"
bench 'device gpt2-1.5B' 2 20
cp "$dir/bench/report.txt" "$out"
grep -q '^device: done after ' "$out" && grep -q '^gpt2-1.5B: not begun: it needs 60 s, and [0-9]* are left$' "$out"
result 'a step that cannot end in time is not begun'
grep -qE "^\| gpt2-124M \| 2 x 16 \| $number \| $number% \| 1980 " "$table" && grep -q '^| qwen3-moe-1B | 4 x 16 | [0-9]' "$table" &&
    grep -q '^| gpt2-1.5B .* not measured: .STEPS=gpt2-1.5B sh tests/gpu/bench.sh. ' "$table"
result 'the table has what was measured before the cut, and the command for what was not'
ls "$dir/out.d" >"$out" && diff "$table" "$dir/out.d/RESULTS.md" >>"$out" && diff "$dir/bench/report.txt" "$dir/out.d/report.txt" >>"$out" &&
    [ -s "$dir/out.d/machine.txt" ] && gzip -dc "$dir/out.d/logs.tar.gz" | tar tf - | grep -q '^bench/logs/device.log$'
result 'all of it is in one flat folder'
# no test of make check-gpu is forgotten; start is nccl.sh's
(unset MAKEFLAGS MFLAGS MAKELEVEL && cd "$build" && ${MAKE:-make} -s gpu-list) | tr ' ' '\n' | sed 's|.*/||; s/\.sh$//' | sort >"$dir/a"
sed -n "/^device 5/,/^TABLE/s/ .*//p" "$src/tests/gpu/bench.sh" | sort >"$dir/b"
comm -23 "$dir/a" "$dir/b" | grep -vx start >"$out"
[ -s "$dir/a" ] && [ ! -s "$out" ]
result 'bench.sh knows all tests of make check-gpu'
# the file that waits to be filled has the rows that bench.sh fills
names()
{
    grep -E '^(#|\|)' "$1" | sed 's/^\(| [^|]*|\).*/\1/; s/^# .*/#/'
}
names "$src/tests/gpu/RESULTS.md" >"$dir/a" && names "$table" >"$dir/b" && diff "$dir/a" "$dir/b" >"$out" && [ -s "$dir/a" ]
result 'RESULTS.md has the rows of the table'
echo "1..$n"
