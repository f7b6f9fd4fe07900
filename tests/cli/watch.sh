#!/bin/sh
# piper watch: what it says of runs that run, end, are killed and start again; in a real terminal where tmux is there.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
unset SLURM_JOB_ID PBS_JOBID
terminal=
trap 'exit 99' HUP INT TERM
trap '[ -z "$terminal" ] || tmux -L "piper$$" kill-server; ranks_end; rm -rf "$dir"' EXIT

# once RUN PATTERN...: piper watch --once has a line like each
once()
{
    folder=$1
    shift
    LC_ALL=C "$piper" watch "$folder" --once >shown 2>&1 || { cat shown >>out && return 1; }
    cat shown >>out
    for pattern; do
        grep -q -- "$pattern" shown || { echo "expected: $pattern" >>out && return 1; }
    done
    [ "$(wc -L <shown)" -le 80 ]
}

build ended gpt2 one train.steps=12 train.checkpoint_every=6 train.eval_data=tokens.h5 train.eval_every=6
mkdir empty && once empty 'empty: nothing has run here yet' 'no step yet'
result 'a folder without a run'
train 1 ended ended && once ended 'ended: finished' '^step 12/12  \[#*\] 100%$' '^loss [0-9.]*  grad_norm' 'tokens/s' \
    'eval_loss [0-9.]* at step 12  checkpoint of step 12, 0:' '^ *[0-9.]* .*\*' 'metrics: *ended/metrics.csv'
result 'a run that has ended'
LC_ALL=C.UTF-8 "$piper" watch ended >braille && grep -q "$(printf '\342\240\|\342\241\|\342\242\|\342\243')" braille && ! grep -q "$(printf '\033')" braille
result 'no terminal: once, without escapes; the curve in Braille'

printf 'x,2,3\nstep\n' >>ended/metrics.csv && printf 'a \033[31mred\033[0m line\n' >>ended/log.txt && once ended 'ended: finished' 'a ?\[31mred' &&
    mkdir hostile && printf 'step,loss\n%s\n' "$(head -c 300000 /dev/zero | tr '\0' 9)" >hostile/metrics.csv && once hostile 'hostile: nothing has run here yet' 'no checkpoint yet'
result 'lines that are none, and control characters'

build long gpt2 zero3 train.steps=1000000
launch 2 long h
await 20 h && once h 'h: running since .*, process' '^step [0-9]*/1000000 ' 'left$'
result 'a run that runs'
kill -9 "$(cat pid.0)" "$(cat pid.1)"
wait "$launched"
once h 'h: killed: process [0-9]* on .* is gone; rerun its command to resume'
result 'a run that was killed'
got=0
"$piper" watch nowhere >said 2>&1 || got=$?
[ "$got" -eq 66 ] && grep -q 'nowhere' said && { "$piper" watch ended --interval 0 >said 2>&1 || grep -q 'an integer >= 1' said; }
result 'no such run; an interval that is none'

# ---- a terminal
if ! command -v tmux >/dev/null 2>&1; then
    echo "ok $((n + 1)) - in a terminal # SKIP no tmux"
    echo "1..$((n + 1))"
    exit 0
fi
terminal=yes
pane()
{
    tmux -L "piper$$" "$@"
}
# shows PATTERN: the terminal does, within seconds
shows()
{
    tries=$((100 * ${TEST_TIME_SCALE:-1}))
    while [ $tries -gt 0 ]; do
        pane capture-pane -p -t watch >screen 2>&1
        grep -q -- "$1" screen && return
        sleep 0.1
        tries=$((tries - 1))
    done
    echo "expected: $1" >>out
    cat screen >>out
    return 1
}
rm -rf h
pane -f /dev/null new-session -d -s watch -x 100 -y 30 "env LC_ALL=C.UTF-8 sh" && pane send-keys -t watch 'printf "what stood %s\n" here' Enter && shows 'what stood here' &&
    mkdir h && pane send-keys -t watch "$piper watch h" Enter && shows 'h: nothing has run here yet'
result 'in a terminal: before the run'
expect=75 launch 2 long h
shows 'h: running since' && shows '\[\.*\] 0%' && ! grep -q 'what stood here' screen && [ "$(wc -l <screen)" -le 30 ]
result 'it starts'
pane resize-window -t watch -x 40 -y 12 && shows '^step [0-9]*/1000000' && sleep 1.5 && shows '^step' && [ "$(wc -L <screen)" -le 40 ] && [ "$(wc -l <screen)" -le 12 ] &&
    pane resize-window -t watch -x 100 -y 30 && shows 'no checkpoint yet'
result '40 columns, and back'
await 20 h && "$piper" halt h >>out && wait "$launched" && shows 'h: stopped by piper halt' && shows 'checkpoint of step'
result 'it ends'
launch 2 long h
shows 'h: running since' && kill -9 "$(cat pid.0)" "$(cat pid.1)"
wait "$launched"
shows 'h: killed: process'
result 'it is resumed, and dies'
train 1 ended h --fresh && shows 'h: finished'
result 'another run in its place'
pane send-keys -t watch q && shows 'what stood here' && pane send-keys -t watch 'stty -a | grep -c -w icanon' Enter && shows '^1$'
result 'q: the terminal is as it was'
pane send-keys -t watch "NO_COLOR=1 $piper watch h" Enter && shows 'h: finished' && pane capture-pane -e -p -t watch >screen && ! grep -q "$(printf '\033')\\[[0-9;]*m" screen &&
    pane send-keys -t watch C-c && shows 'what stood here'
result 'no colours; Ctrl-C'
echo "1..$n"
