#!/bin/sh
# time-limit: 1800
# The first minutes on a machine with a GPU, rehearsed: first.sh with an archive whose module is the fake device of tests/cuda/fake,
# in a place that has no network, nothing of this environment, an empty CUDA toolkit and CUDA's libraries in Python's wheels alone;
# cut after 60, 200 and 480 seconds. What was measured until then must be there. REHEARSE_PYTHON: a folder with a python3 that has
# PyTorch. Prints TAP.
src=${top_srcdir:-.} build=${top_builddir:-.}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
out=$dir/out
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=$out
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
case $build in /*) ;; *) build=$PWD/$build ;; esac
if ! "${MPIEXEC:-mpirun}" --version 2>&1 | grep -q 'Open MPI) 4\.'; then
    echo 'what is packed is Open MPI 4, which is not here'
    exit 77
fi
if [ "$(id -u)" -eq 0 ]; then own=''; else own=-r; fi
# shellcheck disable=SC2086
unshare $own -n -m true 2>/dev/null || { echo 'no namespace may be made here'; exit 77; }

# ---- the archive

(cd "$build" && ${MAKE:-make} -s gpu-programs tests/cuda/test_products tests/cuda/peak tests/cuda/piper_fake.la &&
    sh "$src/tests/gpu/pack.sh" "$dir/real.tar.gz" --without-libraries) >"$out" 2>&1
result 'packed:' tail -n 1 "$out"
mkdir "$dir/fake" && tar xf "$dir/real.tar.gz" -C "$dir/fake" --strip-components=1
mkdir -p "$dir/fake/build/.libs" && cp "$build/tests/cuda/.libs/piper_fake.so" "$dir/fake/build/.libs/piper_cuda.so"
for program in test_products peak; do # of the stand-ins of the libraries
    cp "$build/tests/cuda/$program" "$dir/fake/build/tests/gpu/$program"
done
[ ! -x "$build/tests/cuda/test_parts_host" ] || cp "$build/tests/cuda/test_parts_host" "$dir/fake/build/tests/gpu/test_parts"
tar czf "$dir/fake.tar.gz" -C "$dir" fake && rm -rf "$dir/fake"

# ---- the place

mkdir "$dir/bin" "$dir/tmp" "$dir/wheels" "$dir/toolkit"
cat >"$dir/bin/nvidia-smi" <<'SH'
#!/bin/sh
case $* in
*-lms*) while sleep 0.1; do echo '1980, 612.50, 99, 3201, 55'; done ;;
*driver_version*) echo 580.1 ;;
*) echo 'a clock that stands still' ;;
esac
SH
# the tool that finds nothing to complain of
# shellcheck disable=SC2016
printf '#!/bin/sh\nwhile [ $# -gt 1 ]; do shift; done\nexec "$1"\n' >"$dir/bin/compute-sanitizer"
cat >"$dir/bin/python3" <<SH
#!/bin/sh
case \$2 in *'import nvidia'*) echo '$dir/wheels' ;; *) exec '${REHEARSE_PYTHON:-/usr/bin}/python3' "\$@" ;; esac
SH
chmod +x "$dir/bin/nvidia-smi" "$dir/bin/compute-sanitizer" "$dir/bin/python3"
# the folders of the wheels, with what the toolkit of this build has
libraries=$(sed -n 's/^#define CUDA_LIBDIR "\(.*\)"/\1/p' "$build/build-config.h")
for wheel in cu13:libcublas cudnn:libcudnn nccl:libnccl cu13:libnvrtc; do
    mkdir -p "$dir/wheels/${wheel%:*}/lib"
    [ -z "$libraries" ] || cp -P "$libraries/${wheel#*:}"*.so.* "$dir/wheels/${wheel%:*}/lib/" 2>/dev/null
done
# the loopback, by ioctl(SIOCSIFFLAGS) where there is no ip
cat >"$dir/lo.py" <<'PY'
import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 0x41))
PY
# there COMMAND...: in the place; $small: SMALL
there()
{
    toolkit=${libraries%%/targets/*} toolkit=${toolkit%/lib*}
    # shellcheck disable=SC2016,SC2086
    unshare $own -n -m sh -c 'for at in /usr/local/cuda "$1"; do [ ! -d "$at" ] || mount --bind "$0" "$at" || exit 99; done
        ip link set lo up 2>/dev/null || python3 "$2" || exit 98; shift 2; exec "$@"' \
        "$dir/toolkit" "${toolkit:-/usr/local/cuda}" "$dir/lo.py" \
        env -i PATH="$dir/bin:/usr/bin:/bin" HOME="$dir" TMPDIR="$dir/tmp" OUT="$dir/results" SMALL="$small" PEAK=989e12 \
        BANDWIDTH=4.8e12 "$@" </dev/null
}
cp "$src/tests/gpu/first.sh" "$dir/first.sh"
small=''

# shellcheck disable=SC2016
if [ -f "$build/.libs/piper_cuda.so" ]; then # the real module finds its libraries: what is missing is the device
    there sh "$dir/first.sh" "$dir/real.tar.gz" 60 >"$out" 2>&1
    [ $? -eq 1 ] && grep -q '^bench.sh: nothing to time: .* no NVIDIA driver' "$out"
    result "the real module is loaded with the wheels' libraries:" tail -n 1 "$out"
    there env PIPER_PACK="$dir/tmp/piper-first-$(id -u)/pack" sh -c '. "$PIPER_PACK/env.sh" && rm -r "$0/cudnn" "$0/nccl" &&
        "$PIPER_PACK/build/piper" info' "$dir/wheels" >"$out" 2>&1 && grep -q 'cuda  *unavailable: .* no NVIDIA driver' "$out"
    result 'and without cuDNN and NCCL too'
    there env PIPER_PACK="$dir/tmp/piper-first-$(id -u)/pack" sh -c '. "$PIPER_PACK/env.sh" && rm -r "$0/cu13" &&
        "$PIPER_PACK/build/piper" info' "$dir/wheels" >"$out" 2>&1 && grep -q 'cannot be loaded: libcublasLt' "$out"
    result 'but not without cuBLASLt'
fi

# ---- cut

small=10
# first SECONDS
first()
{
    rm -rf "$dir/results" "$dir/tmp/piper-first-$(id -u)"
    from=$(date +%s)
    there sh "$dir/first.sh" "$dir/fake.tar.gz" "$1" >"$out" 2>&1
    took=$(($(date +%s) - from))
    [ $took -le $(($1 + 3)) ]
    result "$1 s: it ends in time, after $took s"
    cp "$dir/results/report.txt" "$out"
    [ "$(cd "$dir/results" && echo *)" = 'RESULTS.md logs.tar.gz machine.txt report.txt' ] && grep -q '^device: done' "$out"
    result "$1 s: one flat folder; steps that are done:" grep -c ': done' "$out"
    # each step that was done is in the table, and none that was not
    mkdir -p "$dir/unpacked" && tar xf "$dir/results/logs.tar.gz" -C "$dir/unpacked"
    wrong=$(grep -E '^[^:]*: (done|cut)' "$dir/results/report.txt" | while IFS=: read -r step rest; do
        log=$dir/unpacked/bench/logs/$step.log
        [ -s "$log" ] || echo "$step has no log"
        case $rest in *cut*) continue ;; esac
        ! grep -q "STEPS=$step " "$dir/results/RESULTS.md" || grep -q '^SKIP' "$log" || echo "$step:$rest"
    done; grep 'not begun' "$dir/results/report.txt" | while IFS=: read -r step rest; do
        grep -q "STEPS=$step " "$dir/results/RESULTS.md" || echo "$step was measured:$rest"
    done)
    echo "$wrong" >>"$out"
    [ -z "$wrong" ]
    result "$1 s: what was measured before the cut is there, the rest has its command"
    rm -rf "$dir/unpacked"
}
for seconds in 60 200 480; do
    first $seconds
done
grep -q '^gpt2-124M: done' "$dir/results/report.txt" && grep -q '^qwen3-moe-1B: done' "$dir/results/report.txt"
result 'the last one has the models'
echo "1..$n"
