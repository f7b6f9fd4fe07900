#!/bin/sh
# time-limit: 300
# What an instruction costs the runtime: kernels that take no time. One rank alone has no communication; two have MPI's too.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
echo '[{"op":"split","filter":{},"dim_name":"MB","num_microbatches":160}]' >alone.json
echo '[{"op":"layout","pp":2,"dp":1},{"op":"schedule","kind":"1f1b","microbatches":160}]' >pair.json

# overhead RANKS STRATEGY LIMIT_US: microseconds per instruction of a rank, in the median step
overhead()
{
    build "$2" llama "$2" train.batch_size=160 train.steps=41
    train "$1" "$2" "$2" --device emulate --emulate-forward 0 || return 1
    instructions=$(sed -n 's/.*, \([0-9]*\) instructions per step.*/\1/p' "$2/log.txt")
    column "$2" step_seconds | sort -k2 -g | awk -v n="$instructions" -v ranks="$1" -v limit="$3" -v scale="${TEST_TIME_SCALE:-1}" '
        { t[NR] = $2 }
        END { us = 1e6 * t[int((NR + 1) / 2)] * ranks / n
            printf "# %d ranks, %d instructions each: %.3f us an instruction (least %.3f), %.0f instructions/s\n", ranks, n / ranks,
                us, 1e6 * t[1] * ranks / n, 1e6 / us
            exit !(1e6 * t[1] * ranks / n <= limit * scale) }' | tee out
}
overhead 1 alone 2 && ! grep -q ' 0.000 us' out
result 'the executor alone: less than 2 us an instruction'
overhead 2 pair 20
result 'with messages over MPI'
echo "1..$n"
