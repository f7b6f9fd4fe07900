#!/bin/sh
# time-limit: 200
# An installed tree alone suffices: from an empty directory, with only its bin in PATH, a job is built and submitted to Slurm, a manual
# is read and options are completed; and uninstalling leaves nothing. Prints TAP.
build_tree=$PWD
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
. "$src/tests/batch/cluster.sh"
trap 'cluster_down; ranks_end; rm -rf "$dir"' EXIT
trap 'exit 99' HUP INT TERM

tree=$dir/tree
(cd "$build_tree" && make -s install prefix="$tree") >out 2>&1 && [ -x "$tree/bin/piper" ] && [ -r "$tree/share/man/man1/piper-train.1" ] &&
    [ -x "$tree/share/piper/jobscripts/piper.sh" ] && [ -r "$tree/share/piper/jobscripts/batch.sh" ] && [ -r "$tree/share/piper/example/strategy.json" ] &&
    [ -r "$tree/share/doc/piper/README" ] && [ -r "$tree/share/bash-completion/completions/piper" ]
result 'make install'
unset PIPER PIPER_JOBSCRIPTS PIPER_MACHINES
PATH=$tree/bin:$PATH
mkdir empty && cd empty || exit 99
shown=$dir/out
cp "$tree"/share/piper/jobscripts/piper.slurm "$tree"/share/piper/jobscripts/piper.sh "$tree"/share/piper/example/*.json . && piper data text ../text -o tokens.h5 >../out 2>&1 &&
    piper build -m model.json -s strategy.json -t train.json --set train.steps=6 --set train.data=tokens.h5 --set train.eval_every=0 -o job.h5 >>../out 2>&1
result 'the example, built'
piper plan job.h5 --machine h100 >>../out 2>&1
result 'a machine of the data sheets'
sh piper.sh 4 job.h5 alone >>../out 2>&1 && [ "$(last_step alone)" -eq 6 ]
result 'a copied job script, without a batch system'
cd "$dir" && cluster_up && cd empty && options='--ntasks=4 --time=5' submit piper.slurm job.h5 run && finish "$jobid" && cat "$dir"/piper-*.txt >>../out && [ "$(last_step run)" -eq 6 ]
result 'a copied job script, in Slurm'
if command -v man >/dev/null 2>&1; then
    MANPATH=$tree/share/man man -P cat piper-train >manual 2>>../out && grep -q 'RUNDIR' manual
    result 'a manual'
fi

# What the last of some words may become, with the bash and the zsh of these completions. The zsh is not one with a terminal: what it
# would show is printed. _describe takes all words and compares them itself.
in_bash()
{
    # shellcheck disable=SC2016 # for the bash
    bash -c '. "$0" && COMP_WORDS=("$@") && COMP_CWORD=$(($# - 1)) && _piper && printf "%s\n" "${COMPREPLY[@]}"' \
        "$tree/share/bash-completion/completions/piper" "$@"
}
in_zsh()
{
    # shellcheck disable=SC2016 # for the zsh
    zsh -f -c '
        _describe() { local -a all=("${(@P)2}"); all=(${all%%:*}); print -l -- ${(M)all:#$PREFIX*} }
        compadd() { shift; print -l -- ${(M)@:#$PREFIX*} }
        _files() { print -l -- $PREFIX*(N) }
        file=$1; shift; words=("$@"); CURRENT=$#; PREFIX=$words[CURRENT]; set --; source $file' \
        zsh "$tree/share/zsh/site-functions/_piper" "$@"
}
# fish says what each word means behind a tab
in_fish()
{
    # shellcheck disable=SC2016 # for the fish
    fish --no-config -c 'source $argv[1]; complete -C "$argv[2]"' "$tree/share/fish/vendor_completions.d/piper.fish" "$*" | cut -f 1
}
# completes SHELL "WORD ..." WORDS...: in the order of the alphabet
completes()
{
    with=$1 want=$2
    shift 2
    got=$("in_$with" "$@" 2>>../out | LC_ALL=C sort | tr '\n' ' ')
    [ "$got" = "$want " ] || { echo "$with completes \"$*\" to \"$got\", expected \"$want \"" >>../out && return 1; }
}
for shell in bash zsh fish; do
    command -v $shell >/dev/null 2>&1 || continue
    completes $shell 'trace train' piper tra && completes $shell --lanes piper plan --lan && completes $shell watch piper help wat &&
        completes $shell '--check-numbers --check-replicas --checkpoint --checksums' piper train --check && completes $shell 'help' piper hel &&
        completes $shell merged piper plan --lanes m && completes $shell 'skip stop' piper train --on-nan '' && completes $shell job.h5 piper plan jo
    result "$shell completes commands, options, values and files"
done
(cd "$build_tree" && make -s uninstall prefix="$tree") >>../out 2>&1
remaining=$(find "$tree" -type f -o -type d -name 'piper*')
echo "$remaining" >>../out
[ -z "$remaining" ]
result 'uninstalled: no file, and no directory of its own'
echo "1..$n"
