# shellcheck shell=sh
# Read by the scripts of this folder.
stop()
{
    echo "${0##*/}: $*" >&2
    exit 1
}
# in_memory GIB: a folder in memory where there is room for so much, else that for temporary files
in_memory()
{
    if [ -w /dev/shm ] && df -Pk /dev/shm | awk -v gib="$1" 'NR == 2 { exit !($4 > gib * 1048576) }'; then
        echo /dev/shm
    else
        echo "${TMPDIR:-/tmp}"
    fi
}
# of the numbers of a file, one a line; nothing when there are none
median()
{
    sort -g | awk '{ a[NR] = $1 } END { if (NR) print (a[int((NR + 1) / 2)] + a[int(NR / 2) + 1]) / 2 }'
}
