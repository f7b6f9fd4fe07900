#!/bin/sh
# time-limit: 240
# What a restart relies on: files are durable in an order in which a lost machine leaves, at any moment, a checkpoint that is whole
# and the rows of its steps; and a checkpoint is of its step however late the threads are that write it.
. "${top_srcdir:-.}"/tests/fault/lib.sh || exit 99
build k tiny pp2 train.steps=6 train.checkpoint_every=2 train.checkpoint_keep=1

# The calls of a run that began in an empty folder, in the order of PIPER_FAULT_LOG: the k-th write of metrics.csv is the row of step k.
cat >judge.awk <<'AWK'
function folder(path) { sub("/[^/]*$", "", path); return path }
function wrong(text) { print "line " NR ": " $0 ": " text; bad++ }
$2 ~ /^(write|pwrite|ftruncate|fallocate|fflush)$/ { unsynced[$3, $1] = NR; writers[$3] = writers[$3] " " $1 }
$2 == "fflush" && $3 ~ /\/metrics\.csv$/ { rows++ }
$2 ~ /^mkdir/ && index($3, run) == 1 { loose[folder($3)] = loose[folder($3)] " " $3 }
$2 == "fsync" {
    delete unsynced[$3, $1]
    delete loose[$3]
    if ($3 ~ /\/metrics\.csv$/) durable_rows = rows
}
$2 == "renameat" {
    renames++
    unsafe = ""
    n = split(writers[$3], by, " ")
    for (i = 1; i <= n; i++) {
        seen[$4, by[i]] = 1
        if (($3, by[i]) in unsynced) unsafe = by[i]
    }
    if (unsafe != "") wrong("rank " unsafe " has written it and not made it durable")
    loose[folder($4)] = loose[folder($4)] " " $4
    if ($4 ~ /\/step-[0-9]*\.h5$/) {
        step = $4
        sub(".*/step-0*", "", step)
        checkpoints++
        for (i = 0; i < ranks; i++)
            if (!(($4, i) in seen)) wrong("rank " i " has no part in it")
        if (durable_rows < step + 0) wrong("of metrics.csv " durable_rows " rows are durable")
        if (folder(folder($4)) in loose) wrong("its folder is not durable")
    }
}
$2 == "unlinkat" && $3 ~ /\/step-[0-9]*\.h5$/ {
    removed++
    if (folder($3) in loose) wrong("the name of a newer one is not durable")
}
END {
    for (path in loose) {
        print "in " path ":" loose[path] ": not durable at the end"
        bad++
    }
    print renames " files, " checkpoints " checkpoints, " removed " removed"
    exit !(!bad && renames > 3 && checkpoints == 3 && removed == 2)
}
AWK
for how in async sync; do
    PIPER_FAULT_LOG=$dir/calls sh "$src/tests/run-mpi" "$dir/piper-fault" 2 train k.h5 -o "$dir/d-$how" --checkpoint $how >out 2>&1 &&
        awk -v ranks=2 -v run="$dir/d-$how" -f judge.awk calls >>out
    result "$how: what is written is durable before it has its name, rows before their checkpoint, a name before older ones go"
    rm -f calls
done

# ---- threads that begin half a second late: training has gone on by some steps
build late tiny pp2 train.steps=9 train.checkpoint_every=3 train.checkpoint_keep=3
train 2 late sync --checkpoint sync
PIPER_FAULT='*:thread:1:late+' PIPER_FAULT_LATE=0.5 PIPER_FAULT_MARK=$dir/mark sh "$src/tests/run-mpi" "$dir/piper-fault" 2 \
    train late.h5 -o late --checkpoint async >out 2>&1 && [ -s mark ] && same_bits sync late
good=$?
for step in 3 6 9; do
    "$piper" checkpoint diff sync/checkpoints/step-00000$step.h5 late/checkpoints/step-00000$step.h5 >>out 2>&1 || good=1
done
[ $good -eq 0 ] && sed -n 's/.*checkpoint of step [36] written .*, \([0-9]*\) steps* later.*/\1/p' late/log.txt >later && cat later >>out &&
    [ "$(sort -n later | tail -n 1)" -ge 1 ]
result 'threads that are late: async and sync write the same'
sed -n 's/.* checkpoint of step \([0-9]*\) written .*/\1/p' late/log.txt | sort -nu >said
find late/checkpoints -name 'step-*.h5' | sed 's/.*step-0*//; s/\.h5//' | sort -n >files
diff said files >out && [ "$(wc -l <files)" -eq 3 ]
result 'the log names the steps of the files'

# ---- a row that could not be written: none behind it, and no checkpoint that covers it
strike 0:fflush@metrics.csv:4:EIO k gap --steps 6
[ "$status" -eq 74 ] && [ -n "$happened" ] && once 'metrics.csv: cannot be written' &&
    awk -F, 'NR > 1 && $1 != NR - 1 { print "step " $1 " in row " NR - 1; bad = 1 } END { exit bad }' gap/metrics.csv >>out &&
    ! find gap/checkpoints -name 'step-00000[3-9].h5' | grep . >>out && whole_checkpoints gap && train 2 k gap &&
    train 2 k k.whole && same_bits k.whole gap
result 'a row that could not be written: no row behind it, and no checkpoint of its step or a later one'

# ---- a run whose steps take long is alive, also where the time of day is set back by an hour
build one tiny one train.steps=6
PIPER_FAULT=0:exec_run:3:late PIPER_FAULT_LATE=40 PIPER_FAULT_CLOCK=3600 "$dir/piper-fault" train one.h5 -o beats >out 2>&1 &
pid=$!
await 2 beats
before=$(stat -c %Y beats/lock)
tries=$((13 * ${TEST_TIME_SCALE:-1}))
while [ $((tries -= 1)) -gt 0 ] && [ "$(stat -c %Y beats/lock)" -le $((before + 1)) ]; do sleep 1; done
[ "$(stat -c %Y beats/lock)" -gt $((before + 1)) ] && kill -0 $pid && [ "$(last_step beats)" -eq 2 ]
result 'while a step takes long the lock says that the run is alive, though the clock was set back'
kill -KILL $pid
wait $pid 2>/dev/null

# ---- a kill while a damaged metrics.csv is put aside
"$piper" train one.h5 -o hurt --steps 4 >out 2>&1 && sed -i '3s/.*/x/' hurt/metrics.csv
good=0
for k in 1 2; do
    rm -rf h && cp -r hurt h
    PIPER_FAULT=0:renameat@metrics.csv:$k:kill "$dir/piper-fault" train one.h5 -o h >out 2>&1
    "$piper" train one.h5 -o h >>out 2>&1 && [ "$(cut -d, -f1 h/metrics.csv | tr '\n' ' ')" = 'step 1 3 4 5 6 ' ] &&
        cmp hurt/metrics.csv h/metrics.csv.damaged.1 >>out || good=1
done
[ $good -eq 0 ]
result 'a kill while a damaged metrics.csv is put aside: its good rows are kept'

# ---- a moment in which a file system does not answer for a request, or for the folder
build endless tiny one train.steps=100000000
PIPER_FAULT=0:openat@asked/halt:1:ESTALE PIPER_FAULT_MARK=$dir/mark.asked "$dir/piper-fault" train endless.h5 -o asked >out 2>&1 &
pid=$!
await 3 asked && "$piper" halt asked >said 2>&1
tries=$((200 * ${TEST_TIME_SCALE:-1}))
while kill -0 $pid 2>/dev/null && [ $((tries -= 1)) -gt 0 ]; do sleep 0.1; done
[ $tries -gt 0 ] || kill -KILL $pid
wait $pid
[ $? -eq 75 ] && [ -s mark.asked ] && [ -s asked/halted ]
result 'piper halt: a request that cannot be read at a moment is not lost'
cp -r asked away && last=$(last_step away) && PIPER_FAULT=0:stat@away:1:ESTALE+ "$dir/piper-fault" train endless.h5 -o away --resume \
    --steps $((last + 2)) >out 2>&1 && grep -q "resuming from the checkpoint of step $last" out && [ "$(last_step away)" -eq $((last + 2)) ]
result '--resume: a folder that does not answer is not one that is missing'
echo "1..$n"
