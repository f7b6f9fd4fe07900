#!/bin/sh
# time-limit: 300
# What happens to the folder while a run is alive: removed, renamed, replaced, its lock removed; and a run that was suspended while another
# took the folder over. All cases wait at the same time: a run looks at its folder every 5 s.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
export OMP_NUM_THREADS=1

# begin NAME RANKS [FOLDER]: a run in the folder NAME, started in FOLDER; NAME.out holds what it says, pid.NAME its rank 0
begin()
{
    cat >"rank.$1" <<SCRIPT
#!/bin/sh
[ "\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}}" != 0 ] || echo \$\$ >"$dir/pid.$1"
exec "$piper" "\$@"
SCRIPT
    chmod +x "rank.$1"
    if [ "$2" -eq 1 ]; then
        (cd "${3:-.}" && exec "$dir/rank.$1" train one.h5 -o "$1") >"$1.out" 2>&1 &
    else
        sh "$src/tests/run-mpi" -x 75 "$dir/rank.$1" "$2" train two.h5 -o "$1" >"$1.out" 2>&1 &
    fi
    eval "run_$1=\$!"
    await 3 "${3:-.}/$1" || { cat "$1.out" && exit 99; }
}
# says NAME PATTERN: within 30 s
says()
{
    tries=$((300 * ${TEST_TIME_SCALE:-1}))
    while [ $tries -gt 0 ]; do
        ! grep -q "$2" "$1.out" || return 0
        sleep 0.1
        tries=$((tries - 1))
    done
    echo "$1 has not said: $2" >>out
    cat "$1.out" >>out
    return 1
}
# stops NAME: asked to, with 75; a run of several ranks is judged by run-mpi
stops()
{
    kill -USR1 "$(cat "pid.$1")"
    goes "$1"
    [ $got -eq 75 ] || { [ $got -eq 0 ] && [ "$2" -gt 1 ]; }
}
# whole FOLDER: the checkpoint of its last step is there and good, no row is missing
whole()
{
    "$piper" checkpoint verify "$1/checkpoints/step-$(printf %06d "$(last_step "$1")").h5" >>out 2>&1 &&
        awk -F, 'NR > 1 && $1 != NR - 1 { exit 1 }' "$1/metrics.csv"
}
# the bits of what lies in a folder, but for the rings: a run that takes over begins new ones
print()
{
    find "$1" -type f ! -path '*/ring/*' -exec cksum {} + | sort
}

# goes NAME: it ends by itself, within 30 s; $got: its exit status
goes()
{
    tries=$((300 * ${TEST_TIME_SCALE:-1}))
    while [ $tries -gt 0 ] && grep -q '^State:[[:space:]]*[^ZX]' "/proc/$(cat "pid.$1")/status" 2>/dev/null; do
        sleep 0.1
        tries=$((tries - 1))
    done
    [ $tries -gt 0 ] || kill -9 "$(cat "pid.$1")"
    got=0
    eval "wait \$run_$1" || got=$?
    cat "$1.out" >>out
}
# shellcheck disable=SC2046 # numbers
trap 'kill -9 $(cat pid.*) 2>/dev/null; rm -rf "$dir"' EXIT

build one gpt2 one train.steps=10000000
build two gpt2 zero3 train.steps=10000000
: >out
begin removed 2
begin renamed 2
begin replaced 1
begin unlocked 1
begin suspended 1
mkdir disk disk/run && ln -s disk/run linked && begin linked 1
begin edited 1
mkdir current && cp one.h5 tokens.h5 current && begin inside 1 current
kill -STOP "$(cat pid.suspended)"
began=$(date +%s)
rm -rf removed
mv renamed gone
mv replaced kept && mkdir other && ln -s other replaced
rm unlocked/lock
rm -rf disk current
rm edited/log.txt && { cat edited/metrics.csv && echo a remark; } >edit && mv edit edited/metrics.csv

says removed 'warning: the run directory removed was removed: the next checkpoint recreates it' && stops removed 2 &&
    whole removed && grep -q 'warning: the run directory removed was removed and is recreated' removed/log.txt &&
    grep -q 'parameters, float32, adamw' removed/log.txt && "$piper" trace removed --last >>out && [ -f removed/ring/0001 ] &&
    ! grep 'cannot be used' out
result 'removed: a warning, and the next checkpoint makes it again, with log, metrics and ring'
: >out
says linked 'warning: the run directory linked was removed' && stops linked 1 && whole linked && [ -L linked ] && whole disk/run
result 'what a link to it leads to is removed: that is made again'
: >out
says inside 'warning: the run directory inside was removed' && stops inside 1 && whole current/inside
result 'the current folder is removed with it: it is made again where it was'
: >out
kill -USR2 "$(cat pid.edited)" && says edited 'warning: metrics.csv was replaced by another file, now metrics.csv.replaced.1' &&
    grep -q 'a remark' edited/metrics.csv.replaced.1 && stops edited 1 && whole edited && grep -q 'parameters, float32, adamw' edited/log.txt &&
    grep -q 'warning: log.txt was removed or replaced and is recreated' edited/log.txt
result 'an editor replaces metrics.csv, log.txt is removed: the next checkpoint makes them again, with all they had'
: >out
says renamed "warning: renamed is no longer the directory of this run: .*, and is now $dir/gone" && stops renamed 2 &&
    whole gone && [ ! -e renamed ] && grep -q 'warning: renamed is no longer' gone/log.txt
result 'renamed: a warning, and everything goes on to where it is now'
: >out
says replaced 'warning: replaced is no longer the directory of this run' && stops replaced 1 && whole kept &&
    [ -z "$(ls other)" ]
result 'replaced by a link: a warning, and nothing is written where that leads'
: >out
says unlocked 'warning: unlocked/lock had been removed and is recreated' && grep -q "^pid $(cat pid.unlocked)\$" unlocked/lock &&
    ! "$piper" train one.h5 -o unlocked >>out 2>&1 && grep -q 'another run is active' out && stops unlocked 1 && whole unlocked
result 'its lock is removed: a warning, and it is made again'

# as another host does where the file system has no locks, when the file's time has not moved for 20 s
: >out
printf 'run 0123456789abcdef\nhost elsewhere.invalid\npid 1\nsince 2001-01-01 00:00:00\njob none\n' >suspended/lock
while [ $(($(date +%s) - began)) -lt 12 ]; do sleep 0.2; done
print suspended >before
kill -CONT "$(cat pid.suspended)"
goes suspended
print suspended >after
[ $got -eq 76 ] && diff before after >>out && [ "$(grep -c '^piper: ' suspended.out)" -eq 1 ] &&
    grep -q '^piper: suspended: another run, process 1 on elsewhere.invalid since 2001-01-01 00:00:00, has taken over this directory' suspended.out
result 'suspended while another took the folder over: 76, and nothing is written'
echo "1..$n"
