#!/bin/sh
# check-includes.sh [TREE]: who may include whom. Fails when an #include breaks the table below.
#
#   room        may include headers of         and of libraries
#   src/base    src/base                       jansson (all others through base/json.h)
#   ir          src/base, ir                   none; JSON (base/json.h) in ir/family only
#   sched       src/base, ir, sched            none
#   comm        src/base, comm                 mpi, nccl, cuda: in .c files and headers private to a back end
#                                              (comm/mpi*.h, comm/nccl*.h), so that comm.h stays free of them; no JSON
#   io          src/base, ir, io               hdf5, mpi
#   src         all of them                    mpi, BLAS; cuda in src/cuda only; never hdf5
tree=${1:-${top_srcdir:-.}}
cd "$tree" || exit 99

found=$(find src ir sched comm io -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' | LC_ALL=C sort)
if [ -z "$found" ]; then
    echo "no source files under $tree"
    exit 1
fi

# shellcheck disable=SC2086 # file names of the tree have no spaces
awk '
function room_of(file)
{
    if (file ~ /^src\/base\//)
        return "base"
    sub(/\/.*/, "", file)
    return file
}
function complain(why)
{
    printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why
    bad++
}
function check_own(header, room, target)
{
    if (header == "build-config.h" || header == "base/commit.h")
        return
    if (header ~ /^\.\.?\// || header ~ /^src\//)
        return complain("headers are named from the root of the tree or from src")
    if (header ~ /^base\//)
        target = "base"
    else if (header ~ /^(ir|sched|comm|io)\//)
        target = room_of(header)
    else
        target = "src"
    if (target == "src" && header !~ /\// && room != "src")
        return complain("write it with its folder (" room "/" header "); headers of src are for src only")
    if (index(may[room], " " target " ") == 0)
        complain("files of " room " may include headers of" may[room] "only")
    if (header == "base/json.h" && (room == "comm" || FILENAME ~ /^ir\/[^\/]*$/))
        complain("comm and ir know no JSON; ir/family does")
}
function check_library(header, room, private)
{
    private = FILENAME ~ /\.c$|^comm\/(mpi|nccl)[^\/]*\.h$/
    if (header == "jansson.h" && room != "base")
        complain("jansson comes through base/json.h")
    if (header ~ /^hdf5|^H5/ && room != "io")
        complain("hdf5 is used in io only")
    if (header == "mpi.h" && !(room ~ /^(io|src)$/ || (room == "comm" && private)))
        complain("mpi.h is used in io, src and the back ends of comm")
    if (header ~ /^(cuda|cublas|cudnn|nccl|nvtx)/ && !(FILENAME ~ /^src\/cuda\// || (room == "comm" && private)))
        complain("CUDA libraries are used in src/cuda and the back ends of comm")
    if (header ~ /^(cblas|omp)\.h$/ && room != "src")
        complain("BLAS and OpenMP are used in src")
    if (header == "check.h")
        complain("Check is for tests")
}
BEGIN {
    may["base"] = " base "
    may["ir"] = " base ir "
    may["sched"] = " base ir sched "
    may["comm"] = " base comm "
    may["io"] = " base ir io "
    may["src"] = " base ir sched comm io src "
}
/^[ \t]*#[ \t]*include[ \t]*["<]/ {
    seen++
    own = $0 ~ /include[ \t]*"/
    header = $0
    sub(/^[^"<]*["<]/, "", header)
    sub(/[">].*/, "", header)
    if (own)
        check_own(header, room_of(FILENAME))
    else
        check_library(header, room_of(FILENAME))
}
END {
    if (bad) {
        printf "%d of %d includes are not allowed; the table is at the top of tests/check-includes.sh\n", bad, seen
        exit 1
    }
    printf "%d includes, all allowed\n", seen
}' $found
