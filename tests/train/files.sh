#!/bin/sh
# time-limit: 300
# The files of a run: a folder in which another user has laid links, fifos and devices; names that somebody has foreseen; folders of a
# group; what is damaged, misnamed or linked; which checkpoints are known to be good. One rank, without a launcher.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
export OMP_NUM_THREADS=1
seconds=$((20 * ${TEST_TIME_SCALE:-1}))

# run JOB RUN [OPTION...]: trains on one rank; `out` holds what was said. $status: its exit status
run()
{
    job=$1 folder=$2
    shift 2
    status=0
    timeout "$seconds" "$piper" train "$job.h5" -o "$folder" "$@" >out 2>&1 || status=$?
    echo "train $folder: status $status" >>out
    [ $status -eq 0 ]
}
steps_of()
{
    find "$1/checkpoints/" -type f -name 'step-*.h5' | sed 's|.*/||; s/^step-0*//; s/\.h5$//' | sort -n | tr '\n' ' '
}
# damage FILE: one byte in the middle
damage()
{
    middle=$(($(wc -c <"$1") / 2))
    byte=$(od -An -tu1 -j $middle -N 1 "$1")
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\$(printf %o $(((byte + 1) % 256)))" | dd of="$1" bs=1 seek=$middle conv=notrunc 2>>out
}
build short gpt2 one train.steps=6 train.checkpoint_every=1 train.checkpoint_keep=3 'train.trace_steps=[3]'
run short begun --steps 4 || { echo 'Bail out! training failed' && cat out && exit 1; }
run short whole

# ---- what another user may have laid there
mkdir outside outside/folder
echo keep >outside/file
echo keep >outside/folder/file
cp begun/checkpoints/step-000002.h5 outside/other.h5
print_outside()
{
    find outside -printf '%p %y %s %n %m %T@ %l\n' | sort
    find outside -type f -exec cksum {} + | sort
}
# lay KIND NAME: such a thing, in the place of what is there; false: this user cannot
lay()
{
    rm -rf "$2"
    case $1 in
    link) ln -s "$dir/outside/file" "$2" ;;
    nowhere) ln -s "$dir/outside/new" "$2" ;;
    link-to-folder) ln -s "$dir/outside/folder" "$2" ;;
    hard-link) ln outside/file "$2" ;;
    fifo) mkfifo "$2" ;;
    folder) mkdir "$2" ;;
    full-folder) mkdir "$2" && echo x >"$2/x" ;;
    device) mknod "$2" c 1 5 2>/dev/null ;; # /dev/zero: it never ends
    esac
}
# tame COMMAND...: it ends, and if it refuses, then with one sentence
tame()
{
    got=0
    timeout "$seconds" "$piper" "$@" >answer 2>said || got=$?
    case $got in
    0) ;;
    64 | 65 | 66 | 74) [ "$(grep -c '^piper: ' said)" -eq 1 ] ;;
    *) false ;;
    esac && return
    echo "status $got: piper $*" >>out
    cat said >>out
    return 1
}
# all_commands FOLDER: those that read a run folder
all_commands()
{
    tame checkpoint list "$1" && tame checkpoint verify "$1/checkpoints/step-000004.h5" "$1/checkpoints/step-000002.h5" &&
        tame checkpoint diff "$1/checkpoints/step-000004.h5" "$1/checkpoints/step-000002.h5" &&
        tame checkpoint export "$1" -o exported.safetensors && tame trace "$1" && tame trace "$1" --last && tame halt "$1"
}
# untouched WHAT: nothing outside has changed
untouched()
{
    rm -rf hostile # hard links count
    print_outside >outside.after
    cmp -s outside.before outside.after && return
    echo "$1: what is outside has changed" >>out
    diff outside.before outside.after >>out
    return 1
}
print_outside >outside.before
for kind in link nowhere hard-link fifo full-folder device; do
    good=yes
    : >out
    if ! lay $kind probe; then
        n=$((n + 1))
        echo "ok $n - $kind # SKIP this user cannot make one"
        continue
    fi
    rm -rf probe
    for names in lock log.txt metrics.csv ring checkpoints/step-000004.h5 \
        'ring/0000 halt halted checkpoints/step-000005.h5 trace.0000.h5 trace.0001.h5'; do
        cp -r begun hostile
        for name in $names; do lay $kind "hostile/$name"; done
        tame train short.h5 -o hostile || good=no
        untouched "$kind $names" || good=no
    done
    cp -r begun hostile
    for name in lock halt checkpoints/step-000004.h5 ring/0000 trace.0000.h5; do lay $kind "hostile/$name"; done
    all_commands hostile || good=no
    untouched "$kind" && [ $good = yes ]
    result "$kind in the place of any file: no command hangs, dies or writes outside"
done
good=yes
for name in ring old.1 checkpoints; do
    cp -r begun hostile
    lay link-to-folder hostile/$name
    tame train short.h5 -o hostile --fresh && all_commands hostile || good=no
    untouched "link-to-folder $name" || good=no
done
[ $good = yes ]
result 'links to folders'
cp -r begun hostile
cd hostile || exit 99
for name in 'step-000009.h5
' 'step-9.h5' 'step-0000009.h5' 'step-99999999999999999999.h5' 'step-000009.h5.tmp' 'step-000009.h5.0123456789abcdef.tmp' '-rf' '..x' ' ' \
    'step-000009.h5;touch evil' "$(printf 'step-\033[31m.h5')" "$(printf '%0200d' 7)"; do
    ln -s "$dir/outside/file" "checkpoints/$name"
done
for name in metrics.csv.tmp .halt-1 .clock-1 'trace.0002.h5.tmp' "$(printf 'x\ny')"; do ln -s "$dir/outside/new" "$name"; done
printf 'run \033[31m host \033]0;x pid 1 since \033[5mnow job \033[7m\n' >lock
printf 'run 0123456789abcdef\nnow 0\nby \033[31mme\n' >halt
cd "$dir" || exit 99
: >out
all_commands hostile && tame train short.h5 -o hostile && [ "$(last_step hostile)" -eq 6 ] && ! cat said answer hostile/log.txt | grep "$(printf '\033')" >/dev/null &&
    ! [ -e hostile/checkpoints/step-000009.h5.0123456789abcdef.tmp ] && ! [ -e evil ]
tamed=$?
untouched 'hostile names' && [ $tamed -eq 0 ]
result 'hostile names and texts: nothing outside changes, no control characters are printed'

# ---- names that somebody has foreseen
cp -r begun foreseen
for name in metrics.csv checkpoints/step-000005.h5 checkpoints/step-000006.h5 trace.0001.h5 halted halt; do
    ln -s "$dir/outside/new" "foreseen/$name.tmp"
done
for name in made.h5 weights.safetensors text.h5; do ln -s "$dir/outside/new" $name.tmp; done
run short foreseen && same_bits whole foreseen && "$piper" checkpoint export foreseen -o weights.safetensors >>out 2>&1 &&
    "$piper" data text text -o text.h5 >>out 2>&1 &&
    "$piper" build -m gpt2.json -s one.json -t adamw.json -o made.h5 >>out 2>&1 && [ ! -e outside/new ]
result 'links under the names of temporary files are not written through'
rm foreseen/halt.tmp # a request under way may be somebody's
for name in metrics.csv trace.0001.h5 halted .clock checkpoints/step-000009.h5; do : >foreseen/$name.0123456789abcdef.tmp; done
: >foreseen/mine.0123456789abcdef.tmp
run short foreseen && [ "$(find foreseen/ -name '*.tmp')" = foreseen/mine.0123456789abcdef.tmp ]
result 'what a killed run has left of its files is removed, and nothing else'
ln -s outside/linked.h5 wish.h5
"$piper" build -m gpt2.json -s one.json -t adamw.json -o wish.h5 >out 2>&1 && [ -L wish.h5 ] && [ -f outside/linked.h5 ] &&
    "$piper" plan wish.h5 >>out 2>&1
result '-o through a link of the user: the file it leads to is made'
good=yes
lay fifo queue && lay device zero
for name in queue zero outside; do
    [ -e $name ] || continue # a device only root can make
    got=0
    "$piper" data text text -o $name >out 2>&1 || got=$?
    if [ $got -ne 64 ] || [ -f $name ]; then good=no; fi
    grep -q "^piper: $name: is a .*, expected a regular file" out || good=no
done
[ $good = yes ]
result '-o names a device, a fifo, a folder: refused, and they stay'
rm outside/linked.h5

# ---- links that are allowed, and hard links
mkdir -p disk/ck
cp -r begun linked
mv linked/checkpoints/* disk/ck
rmdir linked/checkpoints
ln -s ../disk/ck linked/checkpoints
run short linked && [ "$(steps_of linked)" = '4 5 6 ' ] && [ -L linked/checkpoints ] && [ -f disk/ck/step-000006.h5 ]
result 'checkpoints may be a link to a folder on another disk'
ln -sfn ../disk/none linked/checkpoints
run short linked
[ $status -eq 74 ] && grep -q '^piper: linked/checkpoints: is a dangling symbolic link' out
result 'a link to a disk that is not there: 74'
if [ "$(id -u)" -eq 0 ]; then
    mkdir third && ln -sfn ../third linked/checkpoints && chown -h 12345 linked/checkpoints
    run short linked
    [ $status -eq 74 ] && grep -q 'is a symbolic link of another user (12345)' out && [ -z "$(ls third)" ] && chown 12345 third &&
        run short linked && [ -f third/step-000006.h5 ]
    result 'a link of another user leads to his own folders only'
else
    n=$((n + 1))
    echo "ok $n - a link of another user # SKIP only root can make one"
fi
cp -r begun copied && cp -rl copied kept && tail -n 1 kept/log.txt >before && run short copied && same_bits whole copied &&
    tail -n 1 kept/log.txt >after && cmp before after && [ "$(wc -l <copied/log.txt)" -gt "$(wc -l <kept/log.txt)" ] &&
    [ "$(last_step kept)" -eq 4 ] && [ "$(steps_of kept)" = '2 3 4 ' ]
result 'a copy made of hard links stays as it was'

# ---- a folder of a group
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null && setpriv --reuid 12345 true 2>/dev/null; then
    chmod 755 .
    chmod 644 ./*.h5
    mkdir shared && chgrp 23456 shared && chmod 2775 shared
    member() # USER STEPS UMASK
    {
        # shellcheck disable=SC2016 # for the inner shell
        setpriv --reuid "$1" --regid "$1" --groups 23456 sh -c 'umask $4; exec "$1" train short.h5 -o shared/run --steps "$3"' \
            sh "$piper" "$1" "$2" "$3" >out 2>&1
    }
    member 12345 3 002 && member 12346 6 002 && same_bits whole shared/run &&
        [ -z "$(find shared ! -group 23456)" ] && [ -z "$(find shared/run -type d ! -perm 2775)" ] &&
        [ -z "$(find shared/run -type f ! -perm 664)" ] && [ -n "$(find shared/run -user 12346 -name 'step-*')" ]
    result 'users of a group go on with each other'\''s run; modes are those of the umask'
else
    n=$((n + 1))
    echo "ok $n - a folder of a group # SKIP this user cannot be others"
fi

# ---- checkpoints that are known to be good
good_of()
{
    for file in "$1"/checkpoints/step-*.h5; do
        "$piper" checkpoint verify "$file" >/dev/null 2>&1 && echo "$file"
    done | sed 's|.*/step-0*||; s/\.h5$//' | tr '\n' ' '
}
cp -r begun some && damage some/checkpoints/step-000003.h5 && run short some --steps 5 && [ "$(good_of some)" = '2 4 5 ' ] &&
    run short some && [ "$(good_of some)" = '4 5 6 ' ] && [ "$(steps_of some)" = '4 5 6 ' ]
result 'a damaged checkpoint counts for nothing: the last 3 good ones stay'
build sparse gpt2 one train.steps=10 train.checkpoint_every=5 train.checkpoint_keep=2
cp -r begun fallen && damage fallen/checkpoints/step-000004.h5 && damage fallen/checkpoints/step-000003.h5 &&
    run sparse fallen --steps 5 && [ "$(good_of fallen)" = '2 5 ' ] && run sparse fallen && [ "$(good_of fallen)" = '5 10 ' ]
result 'the only good one stays until there are others'
cp -r begun chain
for step in 5 6 7 8 9 10; do run short chain --steps $step || break; done
[ $status -eq 0 ] && [ "$(checkpoints chain)" -le 4 ] && [ "$(good_of chain | wc -w)" -eq "$(checkpoints chain)" ]
result 'starts that write one checkpoint each do not pile them up: old ones are verified once'

# ---- names and contents
cp -r begun named && cp named/checkpoints/step-000003.h5 named/checkpoints/step-000009.h5 && run short named &&
    grep -q 'warning: .*step-000009.h5: the file name says step 9, but it contains step 3' named/log.txt &&
    grep -q 'step-000009.h5 is renamed to step-000009.h5.misnamed.1' named/log.txt &&
    grep -q 'resuming from the checkpoint of step 4' named/log.txt && same_bits whole named &&
    cmp named/checkpoints/step-000009.h5.misnamed.1 begun/checkpoints/step-000003.h5
result 'a checkpoint under the name of another step is put aside'
cp begun/checkpoints/step-000003.h5 named/checkpoints/step-000009.h5
got=0
"$piper" checkpoint verify named/checkpoints/step-000009.h5 >out 2>&1 || got=$?
[ $got -eq 65 ] && ! "$piper" checkpoint export named -o x.safetensors >>out 2>&1 && [ ! -e x.safetensors ] &&
    [ "$(grep -c 'the file name says step 9, but it contains step 3' out)" -eq 2 ]
result 'verify and export see it too'
mkdir -p many/checkpoints
for step in 1000000 999999 000020 12345678 999998; do : >many/checkpoints/step-$step.h5; done
"$piper" checkpoint list many >out 2>&1 && [ "$(awk '{ print $2 }' out | tr '\n' ' ')" = '20 999998 999999 1000000 12345678 ' ]
result 'more than 999999 steps: listed by number'

# ---- a damaged metrics.csv
hurt() # NAME LINE STEPS: metrics.csv is `made`; LINE is damaged, rows of STEPS stay
{
    rm -rf hurt
    cp -r begun hurt
    cp made hurt/metrics.csv
    run short hurt --steps 5 && grep -q "warning: line $2 of metrics.csv is damaged or missing: the file is renamed to metrics.csv.damaged.1, its good rows" \
        hurt/log.txt && cmp made hurt/metrics.csv.damaged.1 &&
        [ "$(cut -d, -f1 hurt/metrics.csv | tr '\n' ' ')" = "step$3 5 " ] && run short hurt &&
        [ ! -e hurt/metrics.csv.damaged.2 ] && [ "$(last_step hurt)" -eq 6 ]
    result "metrics.csv $1: it is put aside, its good rows are kept"
}
rows=begun/metrics.csv
{ head -n 2 $rows && head -c 300 /dev/zero && tail -n 2 $rows; } >made
hurt 'with a hole' 3 ' 1 4'
sed 1d $rows >made
hurt 'without its head' 1 ' 1 2 3 4'
sed '3s/.*/a line of text/' $rows >made
hurt 'with a line of text' 3 ' 1 3 4'
sed '3s/^2/7/' $rows >made
hurt 'with a step that has not come' 3 ' 1 3 4'
: >made
hurt 'that is empty' 1 ''
head -n 3 $rows >made
hurt 'whose end is missing' 4 ' 1 2'
rm -rf hurt
cp -r begun hurt
{ cat $rows && printf '5,3.1,0' && head -c 100 /dev/zero; } >hurt/metrics.csv
run short hurt && same_bits whole hurt && [ ! -e hurt/metrics.csv.damaged.1 ]
result 'what a kill has left behind the last checkpoint is no damage'
printf 'not a lock\n' >hurt/lock
ln hurt/lock lock.before
run short hurt --steps 7 && grep -q 'moved to lock.damaged.1' out && cmp lock.before hurt/lock.damaged.1
result 'a lock that is none is put aside'
# ---- one job, by whichever file and from wherever it is started
same_job() { ! grep 'job differs' out; }
mkdir elsewhere
build again gpt2 one train.steps=6
run again moved --steps 1 && (cd elsewhere && "$piper" train ../again.h5 -o ../moved --steps 2) >out 2>&1 && same_job &&
    run moved/job moved --steps 3 && same_job && run again moved --steps 4 && same_job
result 'from another directory, and by the job.h5 of the run, the job is the same'
build again gpt2 one train.steps=7
run again moved --steps 5 && grep -q '^the job differs from that of the checkpoint; the model is the same$' out
result 'another job is told'
echo "1..$n"
