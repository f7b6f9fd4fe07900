# shellcheck shell=sh
# shellcheck disable=SC2154 # src, dir, piper: the caller's
# Read by tests that train: models and settings are the files beside this one, and tests/train/ranks.c trains them without a launch
# of MPI for each. The caller has the sources in $src, the program in $piper and works in a folder of its own, $dir; all absolute.

# Ranks that wait are of the program that was built here; another one, or LAUNCH_EACH=1, is launched each time.
ranks_program=${top_builddir:-.}/tests/train/ranks
case $ranks_program in /*) ;; *) ranks_program=$OLDPWD/$ranks_program ;; esac
if [ "$piper" != "${top_builddir-}/piper" ] || [ ! -x "$ranks_program" ] || [ -n "${LAUNCH_EACH-}" ]; then ranks_program=; fi
ranks_there='' ranks_jobs='' # numbers of ranks that are there, and what to wait for

# ranks_begin N
ranks_begin()
{
    [ -p "$dir/ranks.done" ] || { mkfifo "$dir/ranks.done" && exec 8<>"$dir/ranks.done"; }
    rm -f "$dir/ranks.in.$1"
    mkfifo "$dir/ranks.in.$1"
    {
        # data sheets are found beside the program, which these are not
        PIPER_MACHINES=${PIPER_MACHINES-$src/src/machines} sh "$src/tests/run-mpi" -t 4000 -x 199 "$ranks_program" "$1" \
            "$dir/ranks.in.$1" "$dir/ranks.done" $$ >"$dir/ranks.log.$1" 2>&1
        [ ! -d "$dir" ] || echo ended >&8
    } &
    ranks_there="$ranks_there $1" ranks_jobs="$ranks_jobs $!"
    read -r ranks_answer <&8
    [ "$ranks_answer" = 0 ] || { cat "$dir/ranks.log.$1" && exit 99; }
}
ranks_end()
{
    for ranks_n in $ranks_there; do echo . >"$dir/ranks.in.$ranks_n"; done
    # shellcheck disable=SC2086 # numbers
    [ -z "$ranks_jobs" ] || wait $ranks_jobs
}
# on_ranks STATUS N WORD...: `piper WORD...` on N ranks, judged as by run-mpi: good means that it ends with STATUS and, where that is
# 0, prints nothing on stderr. Prints what it printed.
on_ranks()
{
    ranks_status=$1 ranks_n=$2
    shift 2
    if [ -z "$ranks_program" ]; then
        sh "$src/tests/run-mpi" -x "$ranks_status" "$piper" "$ranks_n" "$@"
        return
    fi
    case " $ranks_there " in
    *" $ranks_n "*) ;;
    *) ranks_begin "$ranks_n" ;;
    esac
    : >"$dir/ranks.out"
    : >"$dir/ranks.err"
    printf '%s\n' "$dir/ranks.out" "$dir/ranks.err" "$@" . >"$dir/ranks.in.$ranks_n"
    # shellcheck disable=SC2016 # for the inner shell
    ranks_answer=$(timeout $((120 * ${TEST_TIME_SCALE:-1})) sh -c 'read -r line && echo "$line"' <&8)
    cat "$dir/ranks.out" "$dir/ranks.err"
    case $ranks_answer in
    ended) # all of them, as by MPI_Abort; the next job gets others
        ranks_there=$(echo " $ranks_there " | sed "s/ $ranks_n / /")
        sed '/^run-mpi: /d' "$dir/ranks.log.$ranks_n"
        ranks_answer=$(sed -n 's/^run-mpi: .* exit status \([0-9]*\), expected 199$/\1/p' "$dir/ranks.log.$ranks_n")
        ;;
    '') echo "Bail out! ranks that do not end: $*" && exit 99 ;;
    esac
    if [ "${ranks_answer:-137}" -ne "$ranks_status" ]; then
        echo "run-mpi: $piper on $ranks_n ranks: exit status $ranks_answer, expected $ranks_status"
        return 1
    fi
    [ "$ranks_status" -ne 0 ] || [ ! -s "$dir/ranks.err" ] || { echo 'it wrote to stderr, expected nothing there' && return 1; }
}
# column RUN NAME: "step value" of the rows that have one
column()
{
    awk -F, -v name="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i; next }
        at && $at != "" { print $1, $at }' "$1/metrics.csv"
}
