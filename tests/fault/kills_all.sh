#!/bin/sh
# time-limit: 3600
# KILLS (200) ends at moments, of kinds and of ranks that SEED draws: ranks that get TERM, INT, HUP, USR1 or KILL, one of them or all,
# while they start, compute, evaluate, write or end; a file system that fills up under the run; calls that fail with a full disk, a
# quota, a stale handle, a failed fsync or too many open files, alone or with such a signal. After each the same command is given
# again. None may cost what a checkpoint had: all that have a name are whole, the newest is never an older one than before, training
# begins where it is, and in the end there are the bits of the run that never stopped. A run of 4 ranks; where this user may mount a tmpfs its
# folder lies on one.
. "${top_srcdir:-.}"/tests/fault/lib.sh || exit 99
kills=${KILLS:-200}
seed=${SEED:-$(($(od -An -N 4 -tu4 /dev/urandom) % 1000000))}
state=$seed
echo "# SEED=$seed KILLS=$kills"

# draw N: 0 to N-1, in $drawn
draw()
{
    state=$(((state * 1103515245 + 12345) & 2147483647))
    drawn=$(((state >> 12) % $1))
}
# draw_word WORD...: one of them, in $word
draw_word()
{
    draw $#
    shift $drawn
    word=$1
}
# 0: there is none yet
newest()
{
    find run/disk/r/checkpoints -name 'step-*.h5' | sed 's|.*/step-0*||; s/\.h5$//' | sort -n | tail -n 1
}

mkdir -p run/disk
mounted=no
if mount -t tmpfs -o size=48m none run/disk 2>/dev/null; then
    mounted=yes
    trap 'umount "$dir/run/disk"; rm -rf "$dir"' EXIT
fi
r=run/disk/r
head -c 600 text >few && "$piper" data text few -o few.h5 >out 2>&1 || exit 99
every=3
build long llama pp2dp2 train.steps=1000000 train.checkpoint_every=$every train.checkpoint_keep=3 train.eval_data=few.h5 train.eval_every=5
if ! train 4 long $r --steps 4; then
    echo 'Bail out! training failed'
    cat out
    exit 1
fi

# choose: what happens in the next run: $fault of piper-fault, $signal to $who after $wait, $fill: the disk fills up then
choose()
{
    fault='' signal='' who='' fill='' wait=steps
    draw 10
    case $drawn in
    0 | 1 | 2 | 3) draw_word KILL TERM INT HUP USR1 KILL && signal=$word ;;
    4) fill=yes ;;
    *)
        draw_word 'file@checkpoints ENOSPC+ 60' 'file@metrics.csv EDQUOT+ 30' 'file@/r/ ENOSPC+ 300' 'read@checkpoints ESTALE 40' \
            'read@/r/ ESTALE 60' 'read ESTALE 200' 'file@checkpoints ESTALE 60' 'file@metrics.csv ESTALE 20' 'fsync EIO 20' \
            'pwrite@checkpoints short 60' 'read@/r/ EMFILE 60' 'renameat EIO 6' 'fstatat ESTALE 40'
        # shellcheck disable=SC2086 # words
        set -- $word
        draw 8 # rank 0 has more files
        fault=$((drawn < 4 ? drawn : 0)):$1
        draw "$3"
        fault=$fault:$((drawn + 1)):$2
        draw 3
        [ $drawn -ne 0 ] || { draw_word KILL TERM USR1 && signal=$word; }
        ;;
    esac
    [ -z "$fill" ] || [ $mounted = yes ] || { fill='' fault='*:file@/r/:20:ENOSPC+'; }
    draw_word 0 1 2 3 all && who=$word
    draw_word start steps && wait=$word
    draw 7 && steps=$drawn
    draw 200 && hundredths=$drawn
}
# the moment: after so many steps more, or so long after the start; false: the run has ended before
moment()
{
    if [ "$wait" = steps ]; then
        until [ "$(last_step $r)" -gt $((before + steps)) ]; do
            over && return 1
            sleep 0.02
        done
        hundredths=$((hundredths % 30))
    fi
    sleep "$((hundredths / 100)).$(printf %02d $((hundredths % 100)))"
    ! over
}
over()
{
    ! kill -0 "$launched" 2>/dev/null
}
# the processes that get the signal, when they are there
targets()
{
    if [ "$who" = all ]; then set -- 0 1 2 3; else set -- "$who"; fi
    for rank; do
        until [ -s "pid.$rank" ] || over; do sleep 0.02; done
        cat "pid.$rank"
    done 2>/dev/null
}
strikes=0
strike_once()
{
    before=$(last_step $r)
    rm -f mark
    good=$piper piper=$dir/piper-fault
    PIPER_FAULT=$fault PIPER_FAULT_MARK=$dir/mark expect=199 launch 4 long $r
    piper=$good
    if { [ -n "$fill$signal" ] || [ -z "$fault" ]; } && moment; then
        # shellcheck disable=SC2046 # numbers
        [ -z "$signal" ] || kill -"$signal" $(targets) 2>/dev/null
        [ -z "$fill" ] || cat /dev/zero >run/disk/filler 2>/dev/null
    elif [ -z "$fill$signal" ]; then # one that is not struck would go on for ever
        steps=$((steps + 20)) wait=steps
        ! moment || { signal=USR1 && kill -USR1 "$(cat pid.0)"; }
    fi
    wait "$launched"
    status=$(sed -n 's/^run-mpi: .* ranks: exit status \([0-9]*\), expected 199$/\1/p' out)
    rm -f run/disk/filler
    [ ! -s mark ] || strikes=$((strikes + 1))
    echo "$k: fault ${fault:-none}$([ ! -s mark ] || echo ' (struck)'), signal ${signal:-none} to $who${fill:+, disk full}, at $wait $steps $hundredths: exit status ${status:-none}, steps $before to $(last_step $r), checkpoint $(newest)" >>log
}
# how it may end: 75 after a signal, or killed by it before it was ready for one; 74 with a sentence after a failure; all after KILL
ended_well()
{
    case $signal-$status in
    KILL-*) ;;
    *-75) ;;
    *-74) [ "$(grep -c '^piper: ' out)" -eq 1 ] && { [ -s mark ] || [ -n "$fill" ]; } ;;
    TERM-143 | INT-130 | HUP-129 | USR1-138) [ "$(last_step $r)" -eq "$before" ] ;;
    *) false ;;
    esac
}
: >log
k=0 resumed=0 # resumed: not ended before that
kept=$(newest)
while [ $k -lt "$kills" ]; do
    k=$((k + 1))
    choose
    lines=$(wc -l <$r/log.txt)
    strike_once
    ended_well || { echo "it must not end so" >>log && cat out >>log && break; }
    whole_checkpoints $r || { echo "a checkpoint is damaged" >>log && cat verified >>log && break; }
    [ "$(newest)" -ge "$kept" ] || { echo "the checkpoint of step $kept is lost" >>log && break; }
    from=$(sed "1,${lines}d" $r/log.txt | sed -n 's/.*resuming from the checkpoint of step \([0-9]*\),.*/\1/p')
    [ -z "$from" ] || resumed=$((resumed + 1))
    [ "${from:-$kept}" -eq "$kept" ] || { echo "it began at step $from, not at $kept" >>log && break; }
    if [ "$status" = 75 ] && [ "$(newest)" -ne "$(last_step $r)" ]; then
        echo "stopped by a signal without a checkpoint of its last step" >>log
        break
    fi
    kept=$(newest)
    k_done=$k
done
cp log out
[ "${k_done:-0}" -eq "$kills" ] && [ $((3 * resumed)) -ge "$kills" ]
result "$kills ends, $strikes of them by a call that failed: nothing that was kept is lost"
stop=$(($(newest) + 4))
train 4 long $r --steps $stop && train 4 long whole --steps $stop && same_bits whole $r && ! find $r -name '*.tmp' -o -name 'old.*' \
    -o -name '*.damaged.*' -o -name '*.misnamed.*' -o -name '*.replaced.*' | grep . >>out
result "after $kills restarts $stop steps have the bits of the run that never stopped"
[ -z "${LOG-}" ] || cp log "$LOG"
echo "1..$n"
