#!/bin/sh
# quickstart.sh [TEXT FILE...]: from a fresh clone to a trained model.
#
# Installs what is missing, builds in ./build, and trains a small mixture-of-experts model with 4 MPI ranks (two pipeline
# stages, each on two ranks) on the bytes of a text. Without arguments the text is English prose that every Debian and
# Ubuntu machine has: the licences in /usr/share/common-licenses, with the manuals of this tree. All files: ./quickstart.
set -u
from=$PWD
cd "$(dirname "$0")/.." || exit 1
. jobscripts/lib.sh

for text in "$@"; do
    case $text in
    /*) ;;
    *) text=$from/$text ;;
    esac
    { [ -f "$text" ] && [ -r "$text" ]; } || die "$text: cannot be read; the arguments are text files to train on"
    shift
    set -- "$@" "$text"
done
if [ $# -eq 0 ]; then
    # regular files only: some names are links to others, and a text should not come twice
    # shellcheck disable=SC2046 # names without spaces
    set -- $(find /usr/share/common-licenses README src/man -type f 2>/dev/null | LC_ALL=C sort)
fi

install_packages
# shellcheck disable=SC2119 # no configure options here
build_piper
piper=../build/piper

say 'converting text to tokens and building the job: quickstart/tokens.h5, quickstart/job.h5'
mkdir -p quickstart
for text in "$@"; do
    cat "$text"
done >quickstart/text.txt
for name in model strategy train; do
    # a file that the user changed stays
    [ -f quickstart/$name.json ] || cp jobscripts/quickstart/$name.json quickstart/
done
cd quickstart || exit 1
$piper data text text.txt -o tokens.h5 || die 'piper data failed'
$piper build -m model.json -s strategy.json -t train.json -o job.h5 || die 'piper build failed'

say 'training on 4 ranks: quickstart/run'
status=0
mpi_run 4 $piper train job.h5 -o run --fresh || status=$?
[ $status -eq 0 ] || die "training ended with exit status $status; see quickstart/run/log.txt"

# The first and the last loss, from the column of that name.
losses=$(awk -F , 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "loss") c = i; next }
                   c { if (NR == 2) first = $c; last = $c }
                   END { if (first > 0) printf "%.3f %.3f %.0f", first, last, 100 * last / first }' run/metrics.csv)
[ -n "$losses" ] || die 'quickstart/run/metrics.csv has no losses'
# shellcheck disable=SC2086 # three numbers
set -- $losses

say "loss $1 -> $2: $3% of the first"
if [ "$3" -ge 60 ]; then
    die 'Expected less than 60%: something is wrong with this build. Please report it, with quickstart/run/log.txt'
fi
newest=$(find run/checkpoints -name 'step-*.h5' | LC_ALL=C sort | tail -n 1)
cat <<END
The model has learned. Files:
    quickstart/$newest    a checkpoint: logical tensors, any strategy can resume from it
    quickstart/run/metrics.csv                     loss, gradient norm, tokens per second, one row per step
    quickstart/run/trace.0000.h5                   timeline of each rank, for the steps in "trace_steps"
    quickstart/job.h5                              model, strategy, settings (h5dump, h5py and HDFView read it)
Next steps:
    cd quickstart
    ../build/piper plan job.h5                     the schedule, and the exact memory of each rank
    ../build/piper trace run --summary             compute, communication and idle time by rank
    ../build/piper trace run --perfetto trace.json then open it at https://ui.perfetto.dev
    edit strategy.json ("pp": 4 without "dp", "kind": "gpipe", other "microbatches"), then
    ../build/piper build -m model.json -s strategy.json -t train.json -o job.h5
    mpirun -n 4 --oversubscribe ../build/piper train job.h5 -o run2
END
