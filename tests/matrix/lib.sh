# shellcheck shell=sh
# Shared by the matrix tests: models, settings, and the comparison of a run with its 1-rank run. The caller prints the plan.
piper=${PIPER:-./piper}
src=${top_srcdir:-.}
case $src in /*) ;; *) src=$PWD/$src ;; esac
. "$src/tests/tap.sh" || exit 99
dir=$(mktemp -d) || exit 99
shown=$dir/log
trap 'ranks_end; rm -rf "$dir"' EXIT
. "$src/tests/jobs/lib.sh"

command -v "${MPIEXEC:-mpirun}" >/dev/null 2>&1 || { echo "no MPI launcher on this machine"; exit 77; }

cp "$src"/tests/jobs/*.json "$dir"
sed 's/"capacity_factor": 1.25, //' "$dir/qwen3_moe.json" >"$dir/dropless.json"
# learning rates at which 20 steps fall clearly and do not blow rounding up
sed 's/"batch_size": 8, "seq_len": 16/"batch_size": 16, "seq_len": 24/' "$src/tests/jobs/adamw.json" >"$dir/adamw.json"

# shellcheck disable=SC2086 # options are words
# train NAME RANKS MODEL OPTIMIZER STRATEGY: metrics in $dir/NAME/metrics.csv
train()
{
    echo "$5" >"$dir/strategy.json"
    "$piper" build -m "$dir/$3.json" -s "$dir/strategy.json" -t "$dir/$4.json" -o "$dir/$1.h5" --set train.steps="${steps:-20}" \
        >"$dir/log" 2>&1 &&
        on_ranks 0 "$2" train "$dir/$1.h5" -o "$dir/$1" --data "$dir/${data:-tokens.h5}" --device cpu \
            ${train_options-} >"$dir/log" 2>&1
}

# worst NAME BASE: "first-loss first-norm all-losses", relative deviations of metrics.csv; fails when rows are missing
worst()
{
    awk -F, 'function rel(a, b) { d = a - b; d = d < 0 ? -d : d; m = b < 0 ? -b : b; return m > 0 ? d / m : d }
        FNR == 1 { for (i = 1; i <= NF; i++) col[$i] = i; next }
        NR == FNR { loss[$1] = $col["loss"]; norm[$1] = $col["grad_norm"]; rows++; next }
        { d = rel($col["loss"], loss[$1]); if (!(d <= all)) all = d
          if ($1 == 1) { first = d; fnorm = rel($col["grad_norm"], norm[1]) }
          seen++ }
        END { printf "%.2e %.2e %.2e", first, fnorm, all; exit seen != rows || rows == 0 }' \
        "$dir/$2/metrics.csv" "$dir/$1/metrics.csv"
}

# weights NAME BASE: the largest difference of a weight after the last step; fails when a checkpoint is missing
weights()
{
    step=checkpoints/$(printf 'step-%06d.h5' "${steps:-20}")
    "$piper" checkpoint diff "$dir/$2/$step" "$dir/$1/$step" >"$dir/weights" 2>"$dir/log"
    case $? in 0 | 65) ;; *) return 1 ;; esac
    awk '/^params/ && $NF > most { most = $NF } END { printf "%.2e", most }' "$dir/weights"
}

# case_of NAME RANKS MODEL OPTIMIZER LIMIT STRATEGY; with apart=LIMIT weights too
case_of()
{
    n=$((n + 1))
    if ! train "$1" "$2" "$3" "$4" "$6"; then
        echo "not ok $n - $1"
        sed 's/^/# /' "$dir/log"
        return
    fi
    if w=$(worst "$1" "base-$3-$4") && echo "$w $5" | awk '{ exit !($1 <= 1e-5 && $2 <= 1e-5 && $3 <= $4) }' &&
        { [ -z "${apart-}" ] || { w="$w, weights $(weights "$1" "base-$3-$4")" && echo "${w##* } $apart" | awk '{ exit !(NF == 2 && $1 <= $2) }'; }; }; then
        echo "ok $n - $1: $w"
    else
        echo "not ok $n - $1: deviations of first loss, first norm, all losses are $w, limits 1e-5 1e-5 $5${apart:+ $apart}"
    fi
    [ "${keep-}" ] && cut -d, -f1-5 "$dir/$1/metrics.csv" >"$dir/kept.csv"
    rm -rf "${dir:?}/$1" "$dir/$1.h5"
}

# shellcheck disable=SC2034 # for the caller
schedules='gpipe 1f1b interleaved interleaved-zb zb-h1 zb-h2 zb-v dualpipe dualpipev'
# the placement of a schedule
place_of()
{
    case $1 in
    zb-v | dualpipev) echo v ;;
    interleaved*) echo interleaved ;;
    dualpipe) echo two-way ;;
    *) echo standard ;;
    esac
}

layout()
{
    echo "[{\"op\":\"layout\",\"pp\":$1,\"dp\":$2},{\"op\":\"schedule\",\"kind\":\"$3\",\"microbatches\":$4}]"
}

awk -v bytes=100000 -f "$src/tests/jobs/text.awk" >"$dir/text"
"$piper" data text "$dir/text" -o "$dir/tokens.h5" >/dev/null || { echo "Bail out! piper data text failed"; exit 1; }

base()
{
    [ -e "$dir/base-$1-$2" ] || train "base-$1-$2" 1 "$1" "$2" '[]' ||
        { echo "Bail out! the 1-rank run failed"; cat "$dir/log"; exit 1; }
}
