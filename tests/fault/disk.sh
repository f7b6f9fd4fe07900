#!/bin/sh
# time-limit: 300
# Disks that are really full: a limit on the size of files (ulimit -f), and, where this user may mount one, a small tmpfs. The
# old checkpoint stays whole, the cause is said once, and with room the same command goes on.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
cat >wide.json <<'JSON'
{"model_type": "gpt2", "vocab_size": 256, "n_embd": 128, "n_layer": 4, "n_head": 2, "n_positions": 32}
JSON
layout 2 1 1f1b 2 >pp2.json
build wide wide pp2 train.steps=2 train.checkpoint_every=1 train.checkpoint_keep=1 # a checkpoint takes 10 MB
if ! train 2 wide whole; then
    echo "Bail out! training failed"
    cat out
    exit 1
fi

# refused RUN: 74 once, step 1 is kept
refused()
{
    [ "$(grep -c '^piper: ' out)" -eq 1 ] && grep -q "^piper: $1.*: $2" out && [ "$(checkpoints "$1")" -eq 1 ] &&
        "$piper" checkpoint verify "$1/checkpoints/step-000001.h5" >>out 2>&1 && ! find "$1" -name '*.tmp' | grep . >>out
}
train 2 wide r --steps 1
cat >limited <<SCRIPT
#!/bin/sh
ulimit -f 17000 # of 512 bytes: MPI's own files of shared memory are smaller
exec "$piper" "\$@"
SCRIPT
chmod +x limited
for how in async sync; do
    sh "$src/tests/run-mpi" -x 74 "$dir/limited" 2 train wide.h5 -o r --checkpoint $how >out 2>&1 && refused r 'File too large'
    result "$how: a file that may not become so large"
done
train 2 wide r && same_bits whole r
result 'without the limit it goes on'

mkdir small
if mount -t tmpfs -o size=16m none small 2>/dev/null; then
    trap 'ranks_end; umount "$dir/small"; rm -rf "$dir"' EXIT
    train 2 wide small/r --steps 1
    sh "$src/tests/run-mpi" -x 74 "$piper" 2 train wide.h5 -o small/r >out 2>&1
    refused small/r 'No space left on device'
    result 'a full file system'
    mount -o remount,size=64m small && train 2 wide small/r && same_bits whole small/r
    result 'with room again it goes on'
else
    for case in 'a full file system' 'with room again it goes on'; do
        n=$((n + 1))
        echo "ok $n - $case # SKIP this user may not mount a tmpfs"
    done
fi
echo "1..$n"
