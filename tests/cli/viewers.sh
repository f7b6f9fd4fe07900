#!/bin/sh
# time-limit: 300
# What other programs make of our files: a page of piper report in headless Chromium, at three widths, dark and printed; event files in
# TensorBoard's own reader ($PYTHON, python3). Skipped where they are missing. Prints TAP.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
python=${PYTHON:-python3}
browser=
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null 2>&1 && browser=$name && break
done
reader=
"$python" -c 'import tensorboard' >/dev/null 2>&1 && reader=yes
[ -n "$browser$reader" ] || { echo "neither Chromium nor tensorboard on this machine"; exit 77; }

build job gpt2 pp2dp2 train.steps=12 train.checkpoint_every=6 train.eval_data=tokens.h5 train.eval_every=6 'train.trace_steps=[5]'
train 4 job run --tensorboard
# shot FILE WIDTH [OPTION...]: the page as a picture so wide
shot()
{
    picture=$1 width=$2
    shift 2
    timeout 100 "$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --screenshot="$PWD/$picture" --window-size="$width",2400 "$@" \
        "file://$PWD/report.html" >>out 2>&1 && [ -s "$picture" ] && [ "$(od -An -tu1 -j18 -N2 "$picture" | awk '{ print $1 * 256 + $2 }')" -eq "$width" ]
}
if [ -n "$browser" ]; then
    "$piper" report run >out 2>&1 && for width in 500 800 1400; do shot "w$width.png" $width || break; done && [ "$(wc -c <w1400.png)" -gt 50000 ]
    result 'a page at three widths'
    shot light.png 800 && shot dark.png 800 --blink-settings=preferredColorScheme=0 && ! cmp -s light.png dark.png
    result 'dark'
    timeout 100 "$browser" --headless --no-sandbox --disable-gpu --print-to-pdf="$PWD/page.pdf" "file://$PWD/report.html" >>out 2>&1 &&
        [ "$(head -c 5 page.pdf)" = '%PDF-' ] && [ "$(wc -c <page.pdf)" -gt 20000 ]
    result 'printed'
fi
if [ -n "$reader" ]; then
    "$python" - run >values 2>>out <<'P'
import csv, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1] + "/tensorboard")
events.Reload()
rows = list(csv.DictReader(open(sys.argv[1] + "/metrics.csv")))
for tag, column in (("train/loss", "loss"), ("train/lr", "lr"), ("train/grad_norm", "grad_norm"), ("eval/loss", "eval_loss")):
    want = [(int(r["step"]), float(r[column])) for r in rows if r[column]]
    have = [(x.step, x.value) for x in events.Scalars(tag)]
    assert [s for s, _ in have] == [s for s, _ in want] and all(abs(a - b) <= 1e-6 * abs(b) for (_, a), (_, b) in zip(have, want)), (tag, have, want)
print("good")
P
    grep -qx good values
    result 'TensorBoard reads the rows of metrics.csv'
fi
echo "1..$n"
