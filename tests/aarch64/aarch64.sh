#!/bin/sh
# time-limit: 3600
# For aarch64: the archive of this tree, cross-compiled with warnings as errors, in an emulated processor: all unit tests; operators,
# updates and products against float64, by kernels for NEON and by the BLAS; a training of one rank has the losses of this machine's,
# and this machine resumes from its checkpoint. Prints TAP.
#
# Needs a cross-compiler, qemu-user, and in $PIPER_AARCH64_ROOT the libraries: tests/aarch64/sysroot.sh makes that. JOBS: compilers and
# tests at a time. PIPER_AARCH64_TESTS: these tests instead of all, e.g. tests/num/test_vec; all of them take 20 minutes of a processor.
for program in aarch64-linux-gnu-gcc qemu-aarch64 pkg-config; do
    command -v $program >/dev/null 2>&1 || {
        echo "no $program on this machine: packages gcc-aarch64-linux-gnu, qemu-user and pkgconf"
        exit 77
    }
done
root=${PIPER_AARCH64_ROOT-}
libraries=$root/usr/lib/aarch64-linux-gnu
if [ -z "$root" ] || [ ! -d "$libraries" ]; then
    echo 'no libraries for aarch64: tests/aarch64/sysroot.sh DIR fetches them, PIPER_AARCH64_ROOT=DIR names them'
    exit 77
fi
build_tree=$PWD
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
tree=$dir/tree cross=$dir/cross
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN)}
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that runs this
mkdir "$cross" && (cd "$build_tree" && make -s distdir distdir="$tree") >out 2>&1
result 'the archive'
cd "$cross" || exit 99
shown=$cross/out
export PKG_CONFIG_SYSROOT_DIR="$root" PKG_CONFIG_LIBDIR="$libraries/pkgconfig:$libraries/openblas-pthread/pkgconfig:$root/usr/share/pkgconfig"
../tree/configure --build="$(sh ../tree/src/build-aux/config.guess)" --host=aarch64-linux-gnu --enable-werror CXX=false \
    CC="aarch64-linux-gnu-gcc --sysroot=$root" >out 2>&1
result 'configure --host=aarch64-linux-gnu'
make -s -j "$jobs" piper >out 2>&1 && aarch64-linux-gnu-readelf -h piper | grep -q AArch64 && ! grep -q warning out
result 'the program, without a warning'
cat >arm <<SCRIPT
#!/bin/sh
exec qemu-aarch64 -L "$root" "\$@"
SCRIPT
chmod +x arm
./arm ./piper info >out 2>&1 && grep -q '^compute *cpu *available: neon; products: float32 neon, bfloat16 neon' out
result 'it uses NEON'
PIPER_ISA=avx2 ./arm ./piper info >out 2>&1
[ $? -eq 64 ] && grep -q 'PIPER_ISA is "avx2", expected base or neon' out
result 'instructions of another processor are refused'

# all programs of Check in tests/unit and tests/num, and products and updates once more with the BLAS
# shellcheck disable=SC2016 # for make
tests=${PIPER_AARCH64_TESTS-$(printf 'include Makefile\nwords:\n\t@echo $(SLOW_UNIT_TESTS) $(UNIT_TESTS)\n' | make -s -f - words | tr ' ' '\n' | grep -E '^tests/(unit|num)/')}
# shellcheck disable=SC2086 # names
make -s -k -j "$jobs" $tests >out 2>&1 && ! grep -q warning out
result 'the unit tests, without a warning'
emulated() # INSTRUCTIONS TEST...
{
    isa=$1
    shift
    PIPER_ISA=$isa TEST_WRAPPER="$cross/arm" TEST_LIMIT=1500 CK_TIMEOUT_MULTIPLIER=20 OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive \
        make -k -j "$jobs" check-TESTS check_PROGRAMS= check_LTLIBRARIES= TESTS="$*" >all 2>&1
    for test; do
        cat "$test.log" >out || cat all >out
        grep -q '^:global-test-result: PASS' "$test.trs"
        result "$test, $isa:" sed -n 's/^# \(.* s\), .* of CPU/\1/p' out
    done
}
# shellcheck disable=SC2086 # names
emulated neon $tests
emulated base tests/num/test_kernels tests/num/test_update

# ---- the same job here and there
cd "$dir" || exit 99
shown=out
# same_losses MODEL STEPS
same_losses()
{
    column "here.$1" loss >here && column "there.$1" loss >there && near here there 1e-6 && [ "$(wc -l <there)" -eq "$2" ]
}
worst()
{
    sed -n 's/^worst deviation \([^,]*\),.*/\1/p' out
}
for model in gpt2 qwen3_moe; do
    build $model $model one train.steps=20 train.checkpoint_every=20
    "$piper" train "$model.h5" -o "here.$model" >out 2>&1 &&
        OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive cross/arm cross/piper train "$model.h5" -o "there.$model" >>out 2>&1 &&
        same_losses "$model" 20
    result "$model: losses of 20 steps within 1e-6 of this machine's:" worst
    "$piper" train "$model.h5" -o "here.$model" --steps 25 >out 2>&1 && "$piper" train "$model.h5" -o "there.$model" --steps 25 >>out 2>&1 &&
        same_losses "$model" 25
    result "$model: this machine resumes from its checkpoint:" worst
done
echo "1..$n"
