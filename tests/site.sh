#!/bin/sh
# What other programs that install this one are told (jobscripts/site, jobscripts/lib.sh) is what configure looks for: the same
# libraries, no older than it takes them, options that it knows, this version. Prints TAP.
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=$(mktemp) || exit 99
trap 'rm -f "$shown" "$shown".*' EXIT
cd "${top_srcdir:-.}" || exit 99
spack=jobscripts/site/spack_repo/piper/packages/piper/package.py
easybuild=$(ls jobscripts/site/piper-*.eb)
container=jobscripts/site/piper.def
version=$(sed -n 's/^AC_INIT(\[piper\],\[\(.*\)\])$/\1/p' configure.ac)

# A line for each library of configure's summary: its names in Debian, Spack and EasyBuild. -: none; foss: its toolchain brings it.
libraries='
MPI      libopenmpi-dev           mpi              foss
HDF5     libhdf5-openmpi-dev      hdf5             HDF5
CBLAS    libopenblas-pthread-dev  openblas         foss
JANSSON  libjansson-dev           jansson          Jansson
PCRE2    libpcre2-dev             pcre2            PCRE2
ZLIB     zlib1g-dev               zlib-api         zlib
ZSTD     libzstd-dev              zstd             zstd
OTF2     libopen-trace-format2-dev otf2            OTF2
CUDA     -                        cuda,cudnn,nccl  -
CHECK    check                    check            -'
names() # COLUMN
{
    echo "$libraries" | awk -v c="$1" 'NF && $c != "-" && $c != "foss" { gsub(",", "\n", $c); print $c }' | LC_ALL=C sort
}
# same NAME WHAT-IS WHAT-SHOULD-BE: lists of words
same()
{
    echo "$3" >"$shown.want"
    echo "$2" >"$shown.is"
    diff "$shown.want" "$shown.is" >"$shown" && [ -n "$2" ]
    result "$1"
}
# the libraries that configure names, OpenMP apart, which comes with the compiler
# shellcheck disable=SC2016 # for sed
same "configure's libraries, each with its other names" \
    "$(sed -n 's/.*\$piper_how_\([A-Z0-9]*\).*/\1/p' configure.ac | LC_ALL=C sort)" "$(names 1)"
same 'packages of Debian, in jobscripts/lib.sh' \
    "$(sed -n "/^PIPER_PACKAGES='/,/'\$/p" jobscripts/lib.sh | tr -s " '" '\n' | sed -n '/^libtool/d; /^libc6/d; s/|.*//; /^\(lib.*\|.*-dev\|check\)$/p' |
        LC_ALL=C sort)" "$(names 2)"
same 'Spack: what it depends on' \
    "$(sed -n 's/^ *depends_on("\([a-z0-9-]*\).*/\1/p' $spack | grep -vxE 'c|cxx|gmake|pkgconfig' | LC_ALL=C sort)" "$(names 3)"
same 'EasyBuild: its dependencies' \
    "$(sed -n "/^dependencies/,/^]/s/^ *('\([A-Za-z0-9]*\)', .*/\1/p" "$easybuild" | LC_ALL=C sort)" "$(names 4)"
same 'the container: the packages of jobscripts/lib.sh' "$(sed -n 's/^ *\(\. jobscripts.*\|install_packages\)$/\1/p' $container)" \
    '. jobscripts/lib.sh
install_packages'

# ---- versions: the oldest that configure takes, as its own tests and sentences say
of_part() # WORDS: "cuDNN 9.8 or later"
{
    sed -n "s/^ *_PIPER_CUDA_PART(\[[A-Z]*\],\[$1 \([0-9.]*\) or later\],.*/\1/p" src/m4/piper_cuda.m4
}
jansson=$(sed -n 's/.*jansson \([0-9.]*\) or newer is needed/\1/p' src/m4/piper_libs.m4)
same 'Spack: the oldest versions' "$(sed -n 's/^ *depends_on("\([a-z0-9]*@[0-9.]*\):.*/\1/p' $spack | LC_ALL=C sort)" \
    "$(for library in "check@$(sed -n 's/.*Check \([0-9.]*\) or newer is needed/\1/p' src/m4/piper_libs.m4)" \
        "cuda@$(of_part 'the CUDA runtime')" "cudnn@$(of_part cuDNN)" "jansson@$jansson" \
        "otf2@$(sed -n 's/.*OTF2_COMM_FLAG_NONE); .* version \([0-9]*\) .*/\1/p' src/m4/piper_libs.m4)" \
        "mpi@$(sed -n 's/.*#error MPI \([0-9]*\)\.0 or newer is needed/\1/p' src/m4/piper_mpi.m4)" "nccl@$(of_part NCCL)"; do
        echo "$library"
    done | LC_ALL=C sort)"
is=$(sed -n "s/.*('Jansson', '\(.*\)').*/\1/p" "$easybuild")
[ -n "$jansson" ] && [ "$(printf '%s\n%s\n' "$jansson" "$is" | sort -V | head -n 1)" = "$jansson" ]
result "EasyBuild: Jansson $is, no older than $jansson"

# ---- this version, and the archive of `make dist`
same 'this version' "$(sed -n 's/^ *version("\(.*\)").*/\1/p' $spack
    sed -n "s/^version = '\(.*\)'/\1/p" "$easybuild"
    echo "$easybuild" | sed 's/.*piper-\([0-9.]*\)-.*/\1/'
    sed -n 's/^ *tar -xf piper-\(.*\)\.tar\.xz$/\1/p' $container)" "$version
$version
$version
$version"
same 'the archive' "$(grep -ohE 'piper-[0-9.]+[0-9]\.tar\.xz' $spack $container "$easybuild" | sort -u)" "piper-$version.tar.xz"

# ---- options of configure that are used are options of configure
used=$(grep -ohE -e '--with(out)?-[a-z0-9]+' $spack "$easybuild" $container | sed 's/--without-/--with-/' | sort -u)
unknown=$(for option in $used; do grep -q "AC_ARG_WITH(\[${option#--with-}\]" src/m4/*.m4 || echo "$option is no option of configure"; done)
echo "$unknown" >"$shown"
[ -n "$used" ] && [ -z "$unknown" ]
# shellcheck disable=SC2086 # a line of words
result "configure's options:" echo $used

# ---- what they look for after installing is installed: fragments of Makefile.am name it
missing=$(grep -ohE "['\"](bin|share)/[a-z0-9/.]+['\"]" $spack "$easybuild" | tr -d "'\"" | sort -u | while read -r path; do
    case $path in
    bin/piper) ;;
    share/piper/machines) grep -q '^machinesdir' src/local.mk || echo "$path" ;;
    share/man/*) [ -f "src/man/${path##*/}" ] || echo "$path" ;;
    share/piper/*) grep -q "${path#share/piper/}" Makefile.am || echo "$path" ;;
    *) echo "$path" ;;
    esac
done)
echo "$missing" >"$shown"
[ -z "$missing" ]
result 'what is expected after installing is installed'
if command -v python3 >/dev/null 2>&1; then
    for file in $spack "$easybuild"; do
        python3 -c 'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")' "$file" >"$shown" 2>&1
        result "Python reads ${file##*/}"
    done
fi
echo "1..$n"
