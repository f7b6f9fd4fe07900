#!/bin/sh
# time-limit: 300
# What tests/gpu/pack.sh packs of this build works on a host that has a shell, coreutils and a C library: in a root folder with
# nothing else a small model is trained on two ranks with the packed mpirun, and bench.sh and first.sh say why they time nothing. The
# packed folder has a name with a blank and is read-only there. Prints TAP.
src=${top_srcdir:-.} build=${top_builddir:-.}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
out=$dir/out root=$dir/root
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=$out
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
skip_rest()
{
    echo "ok $((n + 1)) - $* # SKIP"
    echo "1..$((n + 1))"
    exit 0
}
if ! "${MPIEXEC:-mpirun}" --version 2>&1 | grep -q 'Open MPI) 4\.'; then
    echo 'what is packed is Open MPI 4, which is not here'
    exit 77
fi
if ldd "$build/piper" | grep -q 'libasan'; then
    echo 'a build with sanitizers is not packed'
    exit 77
fi
mkdir -p "$root/tmp" "$root/proc" "$root/dev" "$root/bin" "$root/etc" "$root/mo ved"
(cd "$build" && sh "$src/tests/gpu/pack.sh" "$root/ma de.tar.gz" --without-libraries) >"$out" 2>&1 &&
    [ "$(wc -c <"$root/ma de.tar.gz")" -lt 50000000 ] && tar xf "$root/ma de.tar.gz" -C "$root/mo ved" --strip-components=1
result 'packed, less than 50 MB:' sed 's/.*: \(.*\);.*/\1/; q' "$out"
echo 'root:x:0:0::/:/bin/sh' >"$root/etc/passwd"

# the bare host: tools with what they load, where they load it from
tools='sh awk basename cat cksum cp cut date df dirname env false getconf grep gzip head hostname id ln ls mkdir mktemp mv nproc rm sed
    sort tail tar tee timeout tr true uname wc'
for tool in $tools; do
    [ ! -f "/bin/$tool" ] || cp -L "/bin/$tool" "$root/bin/$tool"
done
# of the program's libraries only those of the C library
for library in $(ldd "$root"/bin/* | grep -o '/[^ :]*\.so[^ ]*') \
    $(ldd "$build/piper" | grep -o '/[^ ]*/lib\(m\|pthread\|dl\|rt\|resolv\|util\)\.so[^ ]*'); do
    [ -e "$root$library" ] || { mkdir -p "$root${library%/*}" && cp -L "$library" "$root$library"; }
done
cat >"$root/run.sh" <<'SH'
set -e
cd '/mo ved' && . ./env.sh && cd /tmp
echo '{"model_type": "llama", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 72}' >model.json
echo '[{"op":"layout","pp":2,"dp":1},{"op":"schedule","kind":"1f1b","microbatches":2}]' >strategy.json
echo '{"optimizer": {"kind": "adamw"}, "lr": {"kind": "constant", "peak": 1e-3}, "batch_size": 4, "seq_len": 16, "steps": 3,
    "seed": 1, "data": "tokens.h5"}' >train.json
piper="/mo ved/build/piper"
"$piper" data text "/mo ved/README" -o tokens.h5
"$piper" build -m model.json -s strategy.json -t train.json -o job.h5
"$piper" plan job.h5 --simulate --machine h100 >plan.txt
mpirun -n 2 "$piper" train job.h5 -o run --device cpu
SH
# bare COMMAND...: there, with nothing of this environment; a sanitizer that is in the program looks for no leaks, since what it has to know
# of MPI's is not there
bare()
{
    if [ "$(id -u)" -eq 0 ]; then own=''; else own=-r; fi
    # shellcheck disable=SC2016,SC2086
    timeout 120 unshare $own -m sh -c 'mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" || exit 99
        mount --bind "$0/mo ved" "$0/mo ved" && mount -o remount,bind,ro "$0/mo ved" || : # not allowed everywhere
        root=$0 && exec env -i PATH=/bin HOME=/tmp TMPDIR=/tmp LC_ALL=C ASAN_OPTIONS=detect_leaks=0 "$(command -v chroot)" "$root" "$@"' "$root" "$@" </dev/null
}
bare true >"$out" 2>&1 || skip_rest 'no other root folder may be used here'
! bare sh -c 'command -v mpirun || ls /usr/lib/*/libmpi* /lib/*/libmpi*' >"$out" 2>&1
result 'there is no MPI on the bare host'
bare sh -e /run.sh >"$out" 2>&1 && grep -q '2 ranks (2 on this node' "$out" && grep -q 'step 3/3' "$out"
result 'two ranks train there'
bare sh -c 'cd /tmp && sh "/mo ved/bench.sh"' >"$out" 2>&1
[ $? -eq 1 ] && grep -q '^bench.sh: nothing to time: cuda unavailable: ' "$out"
result 'bench.sh there:' tail -n 1 "$out"
bare sh -c 'cd /tmp && cp "/mo ved/tests/gpu/first.sh" . && rm -rf piper-first-* && sh first.sh "/ma de.tar.gz" 60' >"$out" 2>&1
[ $? -eq 1 ] && grep -q '^bench.sh: nothing to time: cuda unavailable: ' "$out"
result 'the archive and first.sh are all that is needed:' tail -n 1 "$out"
# on a device that is not there
cp "$build/tests/cuda/.libs/piper_fake.so" "$root/fake.so" &&
    bare env PIPER_CUDA_MODULE=/fake.so SMALL=2 STEPS='device gpt2-124M' OUT=/tmp/results sh "/mo ved/tests/gpu/first.sh" \
        "/ma de.tar.gz" 100 >"$out" 2>&1
cat "$root/tmp/results/report.txt" >>"$out"
grep -q '^gpt2-124M: done after' "$root/tmp/results/report.txt" &&
    grep -q '^| gpt2-124M | 2 x 16 | [0-9]' "$root/tmp/results/RESULTS.md" && [ -s "$root/tmp/results/logs.tar.gz" ]
result 'a rehearsal there:' tail -n 1 "$root/tmp/results/report.txt"
bare sh -c 'sh "/mo ved/first.sh" soon' >"$out" 2>&1
[ $? -eq 2 ] && grep -q "^usage: first.sh .*found 'soon', expected seconds" "$out"
result 'first.sh without its seconds:' tail -n 1 "$out"
# shellcheck disable=SC2016
bare sh -c 'cd /tmp && . "/mo ved/env.sh"; [ $? -eq 1 ] && [ -z "${PIPER_PACK-}" ]' >"$out" 2>&1 &&
    grep -q '^env.sh: there is no mpi/bin/mpirun in /tmp: ' "$out"
result 'env.sh from another folder is refused'
# Python's wheels: the one thing that env.sh asks Python
# shellcheck disable=SC2016
{
    mkdir -p "$root/wheels/cu13/lib" "$root/wheels/cudnn/lib" "$root/wheels/nccl/lib"
    printf '#!/bin/sh\ncase $2 in *"import nvidia"*) echo /wheels ;; *) exit 1 ;; esac\n' >"$root/bin/python3"
    chmod +x "$root/bin/python3"
}
# shellcheck disable=SC2016
bare sh -c 'cd "/mo ved" && . ./env.sh && echo "$LD_LIBRARY_PATH"' >"$out" 2>&1
grep -q '^/mo ved/lib:.*:/wheels/cu13/lib:/wheels/cudnn/lib:/wheels/nccl/lib$' "$out"
result "libraries of Python's wheels are found"
rm "$root/bin/python3"
# one that is missing is not found elsewhere
rm "$root/mo ved"/lib/libhdf5* && ! bare sh -e /run.sh >"$out" 2>&1 && grep -q 'libhdf5' "$out"
result 'without one of its libraries it does not start'
echo "1..$n"
