#!/bin/sh
# check-includes.sh [TREE]: who may include whom. Fails when an #include breaks the table below.
#
#   room        may include headers of beside its own                  and of libraries
#   src/base    none                                                   jansson (all others through base/json.h)
#   src/text    base                                                   pcre2, zlib, zstd
#   ir          base                                                   none; JSON (base/json.h) in ir/family only
#   sched       base, ir                                               none
#   comm/world  base                                                   mpi; comm/mpi_call.h, comm/mpi_patience.c are its own
#   comm        base, comm/world                                       mpi, nccl, cuda: in .c files and headers private to a
#                                                                      back end (comm/mpi*.h, comm/nccl*.h), so that comm.h
#                                                                      stays free of them; no JSON
#   io          base, ir, comm/world                                   hdf5
#   src/host    base                                                   none
#   src/rundir  base                                                   none
#   src/job     base, ir, sched, io, rundir                            none
#   src/exec    base, ir, comm, host, rundir                           OpenMP; exec/device.h: device*.c only, for others the
#                                                                      device is a machine like any (exec/machine.h)
#   src/watch   base, comm, rundir, exec                               none
#   src/speak   base, text, ir, io, host, exec                         none
#   src/train   base, text, ir, sched, comm, io, host, rundir, job,    OpenMP
#               exec, watch, speak
#   src/tune    base, ir, sched, io, job                               none
#   src/view    base, ir, sched, io, job                               OTF2
#   src/cmd     all but cpu and cuda                                   OpenMP
#   src/cpu     base, ir, exec                                         BLAS, OpenMP
#   src/cuda    base, ir, exec                                         cuda
#   src/main.c  base, exec, cmd, comm/world                            none
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
    if (file ~ /^comm\/(world\.[ch]|mpi_call\.h|mpi_patience\.c)$/)
        return "world"
    if (file ~ /^src\/[^\/]*\//)
        sub(/^src\//, "", file)
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
    if (header !~ /\//)
        return complain("write it with its folder (" room "/" header ")")
    target = room_of(header)
    if (index(may[room], " " target " ") == 0)
        complain("files of " room " may include headers of" may[room] "only")
    if (header == "exec/device.h" && FILENAME !~ /^src\/exec\/device/)
        complain("a machine is asked through exec/machine.h")
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
    if (header == "mpi.h" && !(room ~ /^(comm|world)$/ && private))
        complain("mpi.h is used in the back ends of comm and its world")
    if (header ~ /^(cuda|cublas|cudnn|nccl|nvtx)/ && !(room == "cuda" || (room == "comm" && private)))
        complain("CUDA libraries are used in src/cuda and the back ends of comm")
    if (header == "cblas.h" && room != "cpu")
        complain("BLAS is used in src/cpu")
    if (header == "omp.h" && room !~ /^(cpu|cmd|exec|train)$/)
        complain("OpenMP is used in src/cpu, src/cmd, src/exec and src/train")
    if (header ~ /^(pcre2|zlib|zstd)/ && room != "text")
        complain("PCRE2, zlib and zstd are used in src/text")
    if (header ~ /^otf2/ && room != "view")
        complain("OTF2 is used in src/view")
    if (header == "check.h")
        complain("Check is for tests")
}
BEGIN {
    may["base"] = " base "
    may["text"] = " base text "
    may["ir"] = " base ir "
    may["sched"] = " base ir sched "
    may["world"] = " base world "
    may["comm"] = " base world comm "
    may["io"] = " base ir world io "
    may["host"] = " base host "
    may["rundir"] = " base rundir "
    may["job"] = " base ir sched io rundir job "
    may["exec"] = " base ir world comm host rundir exec "
    may["watch"] = " base world comm rundir exec watch "
    may["speak"] = " base text ir io host exec speak "
    may["train"] = " base text ir sched world comm io host rundir job exec watch speak train "
    may["view"] = " base ir sched io job view "
    may["tune"] = " base ir sched io job tune "
    may["cmd"] = " base ir sched world comm io host rundir job exec watch speak train tune view text cmd "
    may["cpu"] = " base ir exec cpu "
    may["cuda"] = " base ir exec cuda "
    may["src"] = " base exec cmd world "
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
