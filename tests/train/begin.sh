#!/bin/sh
# time-limit: 300
# How runs begin: what was found, where training begins, and that nothing is lost when the folder is not what it seems.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

build short gpt2 one train.steps=3
build two gpt2 zero3 train.steps=3

# ---- said in every log
train 1 short run && grep -q '  no checkpoint in run: starting at step 1$' run/log.txt &&
    train 1 short run --steps 5 && grep -q '  resuming from the checkpoint of step 3, .*: starting at step 4$' run/log.txt
result 'the log says what was found and where it begins'

# ---- --resume
ends 66 1 short none --resume && grep -q '^piper: none: --resume found no checkpoint' out && [ ! -e none ]
result '--resume without a run folder: 66, and no folder is made'
mkdir empty && ends 66 1 short empty --resume && [ ! -e empty/metrics.csv ]
result '--resume without a checkpoint: 66'
ends 64 1 short run --resume --fresh && ends 64 1 short emulated --resume --device emulate && [ ! -e emulated ]
result '--resume with --fresh, or in an emulation: 64'
train 1 short run --resume --steps 6 && [ "$(last_step run)" -eq 6 ]
result '--resume with a checkpoint'

# ---- rows are never dropped
cp -r run rows && rm -r rows/checkpoints && cp rows/metrics.csv before.csv && train 1 short rows &&
    cmp before.csv rows/old.1/metrics.csv && [ "$(last_step rows)" -eq 3 ] && grep -q 'warning: rows/metrics.csv .*rows/old.1' rows/log.txt
result 'rows without a checkpoint are put aside'
mkdir scratch && cp -r run far && mv far/checkpoints scratch/ck && ln -s ../scratch/ck far/checkpoints &&
    train 1 short far --steps 7 && mv scratch away && cp -r far far.before && ends 74 1 short far --steps 8 &&
    grep -q '^piper: far/checkpoints: is a dangling symbolic link' out && diff -r --no-dereference -x log.txt -x ring far.before far >>out &&
    ends 74 1 short far --resume && mv away scratch && train 1 short far --steps 8 && [ "$(last_step far)" -eq 8 ]
result 'checkpoints behind a link whose file system is not there: 74, nothing is touched'
ln -s away/run link && ends 74 1 short link && grep -q '^piper: link: is a dangling symbolic link' out && [ ! -e away ] &&
    mkdir -p away/run && train 1 short link && [ -f away/run/metrics.csv ]
result 'a run folder behind such a link: 74, and it is not made'

# ---- the newest is damaged: it is not replaced
cp -r run bad && printf damaged | dd of=bad/checkpoints/step-000006.h5 bs=1 seek=20000 conv=notrunc 2>/dev/null &&
    cp bad/checkpoints/step-000006.h5 damaged.h5 && train 1 short bad --steps 6 &&
    cmp damaged.h5 bad/checkpoints/step-000006.h5.damaged.1 && grep -q 'step-000006.h5 is renamed to' bad/log.txt && same_bits run bad
result 'a damaged checkpoint is put aside, not replaced'
printf damaged | dd of=bad/checkpoints/step-000006.h5 bs=1 seek=20000 conv=notrunc 2>/dev/null && train 1 short bad --steps 6 &&
    cmp damaged.h5 bad/checkpoints/step-000006.h5.damaged.1 && [ -f bad/checkpoints/step-000006.h5.damaged.2 ] && same_bits run bad
result 'and so is the next one'

# ---- a folder that ranks do not share: the second rank sees another one of that name
cat >elsewhere <<SCRIPT
#!/bin/sh
[ "\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}}" = 0 ] || { mkdir -p "$dir/other/local" && cd "$dir/other"; }
exec "$piper" "\$@"
SCRIPT
chmod +x elsewhere
sed "s|tokens.h5|$dir/tokens.h5|" adamw.json >absolute.json && cp adamw.json relative.json && cp absolute.json adamw.json
build apart gpt2 zero3 train.steps=3
cp relative.json adamw.json
mkdir other && cp apart.h5 other
for folder in local missing; do
    sh "$src/tests/run-mpi" -x 74 "$dir/elsewhere" 2 train apart.h5 -o $folder >out 2>&1 &&
        grep -q "^piper: rank 1 (node [^)]*) sees another directory $folder than rank 0" out && [ ! -e $folder/checkpoints ] &&
        [ ! -e other/$folder/ring ] && ! find . -name '.shared-*' | grep . >>out
    result "a run folder that is not shared ($folder): 74 at the start"
done
start 2 two shared && ! find . -name '.shared-*' | grep . >>out
result 'one that is shared'

# ---- threads, where this machine has CPUs to tell apart
cat >placed <<SCRIPT
#!/bin/sh
unset OMP_NUM_THREADS
exec taskset -c \$((\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}} * \$STRIDE)) "$piper" "\$@"
SCRIPT
chmod +x placed
if ! command -v taskset >/dev/null || [ "$(nproc)" -lt 2 ] || ! taskset -c 0,1 true 2>/dev/null; then
    for case in 'own CPUs' 'one CPU for all' OMP_PROC_BIND; do
        n=$((n + 1))
        echo "ok $n - threads: $case # SKIP one CPU"
    done
else
    STRIDE=1 sh "$src/tests/run-mpi" "$dir/placed" 2 train two.h5 -o own >out 2>&1 &&
        grep -q '  threads per rank: 1 (it may run on 1 CPU, shared with no other rank)' own/log.txt && ! grep 'ranks run on' own/log.txt >>out
    result 'threads: own CPUs'
    STRIDE=0 sh "$src/tests/run-mpi" "$dir/placed" 2 train two.h5 -o same >out 2>&1 &&
        grep -q 'threads per rank: 1 (it may run on 1 CPU, shared with 1 other rank' same/log.txt &&
        grep -q 'warning: 2 ranks run on CPU 0, while .* idle. The launcher binds them this way' same/log.txt
    result 'threads: one CPU for all'
    OMP_PROC_BIND=true start 2 two pinned && grep -q 'warning: 2 ranks run on CPU .*OMP_PROC_BIND .* Overridden' pinned/log.txt &&
        ! grep 'ranks run on' shared/log.txt >>out
    result 'threads: OMP_PROC_BIND'
fi
echo "1..$n"
