#!/bin/sh
# pack.sh OUT [--without-libraries]: in a build folder: packs the built program, what make check-gpu and bench.sh need, and all
# shared libraries they load (Open MPI with its plug-ins, HDF5, BLAS, CUDA's) for a host with an NVIDIA driver and a shell. OUT is a
# new folder, which may be moved, or NAME.tar.gz or NAME.tar.xz, a file with that folder in it. There
#
#     sh first.sh NAME.tar.gz SECONDS     (tests/gpu/first.sh; also in the folder) checks and measures for so long, what tells most first
#     sh OUT/bench.sh                     everything
#
# --without-libraries: leaves out cuBLASLt, cuDNN, NCCL and NVRTC, more than 1 GiB, for a host that has them in CUDA_HOME (default
# /usr/local/cuda), in Python's wheels or in folders of LD_LIBRARY_PATH; an archive then has less than 50 MB. LLMC=FOLDER: the
# train_gpt2cu that is built there goes along. The host's C library must be as new as this host's. Open MPI 4 only.
set -u
stop()
{
    echo "pack.sh: $*" >&2
    exit 1
}
src=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
[ -n "${1-}" ] || stop 'usage: pack.sh OUT [--without-libraries]'
# CUDA's libraries that are left out
case ${2-} in
'') without='^$' ;;
--without-libraries) without='^lib(cublas|cudnn|nccl|nvrtc)' ;;
*) stop "unknown option $2" ;;
esac
[ -f Makefile ] || stop 'this is no build folder: run it where make was run'
[ ! -e "$1" ] || stop "$1 is there already"
[ -z "${LLMC-}" ] || [ -x "$LLMC/train_gpt2cu" ] || stop "there is no $LLMC/train_gpt2cu: build it, or leave LLMC out"
case $1 in
*.tar.gz) archive=$1 folder=$(basename "$1" .tar.gz) ;;
*.tar.xz) archive=$1 folder=$(basename "$1" .tar.xz) ;;
*) archive='' folder='' ;;
esac
if [ -n "$archive" ]; then
    temp=$(mktemp -d) || exit 1
    trap 'rm -rf "$temp"' EXIT
    set -- "$temp/$folder" "${2-}"
fi
${MAKE:-make} -s gpu-programs >/dev/null || stop 'make gpu-programs failed'
list=$(${MAKE:-make} -s gpu-list) || exit 1
mkdir -p "$1" && out=$(cd "$1" && pwd) || exit 1

# ---- sources that tests and bench.sh read; programs

(cd "$src" && tar cf - README tests/jobs src/machines/*.json tests/run-test tests/run-mpi tests/tap.sh tests/train/lib.sh tests/gpu) |
    (cd "$out" && tar xf -) || exit 1
cp "$src/tests/gpu/env.sh" "$out/env.sh"
# program FROM TO: an ELF file; libtool may have put it aside
program()
{
    mkdir -p "$(dirname "$2")"
    from=$(dirname "$1")/.libs/$(basename "$1")
    [ -f "$from" ] || from=$1
    cp "$from" "$2" && { strip --strip-debug "$2" 2>/dev/null || :; }
}
program piper "$out/build/piper" || exit 1
[ ! -f .libs/piper_cuda.so ] || program .libs/piper_cuda.so "$out/build/.libs/piper_cuda.so" || exit 1
for name in $list; do
    case $name in *.sh) ;; *) program "$name" "$out/build/$name" || exit 1 ;; esac
done
echo "$list" >"$out/build/list"

# ---- Open MPI

launcher=$(command -v "${MPIEXEC:-mpirun}") || stop 'there is no mpirun'
"$launcher" --version 2>&1 | grep -q 'Open MPI) 4\.' || stop "$launcher is not Open MPI 4's"
paths=$(ompi_info --parsable --path all) || stop 'there is no ompi_info, which says where Open MPI lies'
path()
{
    echo "$paths" | sed -n "s/^path:$1://p" | head -n 1
}
mkdir -p "$out/mpi/bin" "$out/mpi/plugins" "$out/mpi/pmix" "$out/mpi/share" "$out/mpi/etc" "$out/lib" "$out/spare"
cp -L "$launcher" "$out/mpi/bin/mpirun" && cp -L "$(path bindir)/orted" "$out/mpi/bin/" || exit 1
# plug-ins of networks whose libraries belong to the host, and of SHMEM, are left behind
ldd "$(path pkglibdir)"/mca_*.so | awk '/^[^ \t].*:$/ { file = substr($0, 1, length($0) - 1); seen[file] = 1 }
    /not found|libfabric|libuc[pst]\.|libibverbs|libpsm|liboshmem/ { left[file] = 1 }
    END { for (file in seen) if (!(file in left)) print file }' | while read -r file; do
    cp -L "$file" "$out/mpi/plugins/"
done
cp -L "$(path pkgdatadir)"/*.txt "$out/mpi/share/"
cp -L "$(path sysconfdir)"/openmpi-mca-params.conf "$out/mpi/etc/" 2>/dev/null || :
pmix=$(ldd "$out"/mpi/plugins/*.so | sed -n 's/.*libpmix.so[^ ]* => \([^ ]*\).*/\1/p' | head -n 1)
if [ -n "$pmix" ]; then # a library of its own, whose plug-ins lie beside it
    cp -L "$(dirname "$(readlink -f "$pmix")")"/pmix/*.so "$out/mpi/pmix/" || stop "found no plug-ins of $pmix"
fi

# ---- libraries

if [ -n "${LLMC-}" ]; then
    mkdir "$out/llm.c" && cp "$LLMC/train_gpt2cu" "$out/llm.c/" || exit 1
fi

# What files of the folder load, "NAME PATH" a line, but for the C library.
needs()
{
    (cd "$out" && ldd "$@" 2>/dev/null) | awk '$2 == "=>" && $3 ~ "^/" { print $1, $3 }
        $2 == "=>" && $3 == "not" { print "pack.sh: " $1 " is not on this host either" | "cat >&2" }' | sort -u |
        grep -v -E '^(ld-linux|lib(c|m|dl|rt|pthread|util|resolv|nsl|anl|mvec|nss_[a-z]*)\.so)'
}
files()
{
    cd "$out" && find build mpi lib spare -type f \( -name '*.so*' -o -perm -u+x \)
}
# what host tools may load too: see env.sh
shared='^lib(gcc_s|stdc\+\+|z|crypto|ssl|udev|selinux|pcre2?-.*|gmp|zstd|lzma|cap|systemd|tinfo|com_err|keyutils|ffi)\.so'
take() # NAME PATH
{
    echo "$1" | grep -q -E "$without" && return
    to=$out/lib
    ! echo "$1" | grep -q -E "$shared" || to=$out/spare
    [ -e "$to/$1" ] || cp -L "$2" "$to/$1"
}
# shellcheck disable=SC2046 # file names without blanks, ours
needs $(files) | while read -r name path; do
    take "$name" "$path"
    case $name in
    libcudnn.so.*) # loads its parts by name, and these NVRTC, which loads its own
        for part in "$(dirname "$path")"/libcudnn_*.so."${name##*.}" "$(dirname "$path")"/libnvrtc*.so.[0-9]*; do
            case $part in *.alt.*) ;; *) [ ! -e "$part" ] || take "${part##*/}" "$part" ;; esac
        done
        ;;
    esac
done
# shellcheck disable=SC2046
needs $(cd "$out" && find lib -name 'libcudnn*') | while read -r name path; do take "$name" "$path"; done
chmod -R u+w "$out"

for script in bench first; do
    cat >"$out/$script.sh" <<SH
#!/bin/sh
exec sh "\$(dirname "\$0")/tests/gpu/$script.sh" "\$@"
SH
done
if [ -n "$archive" ]; then
    tar caf "$archive" -C "$temp" "$folder" || { rm -f "$archive"; stop "$archive cannot be written"; }
    echo "$archive: $(($(wc -c <"$archive") / 1000000)) MB; there: sh first.sh $(basename "$archive") SECONDS"
    exit 0
fi
du -sk "$out" | awk -v out="$out" '{ printf "%s: %d MiB; there: sh \"%s/bench.sh\"\n", out, $1 / 1024, out }'
(cd "$out" && du -sk build lib spare mpi) | awk '{ printf "  %d MiB %s\n", $1 / 1024, $2 }'
