#!/bin/sh
# check-functions.sh [TREE]: a function has 60 lines and six parameters at most; the struct err * comes on top of six. Tables and the
# functions of src/cpu and src/cuda that a comment right above excuses by the word "parameters" or "lines" may have more, and so may
# the inner loops of kernels (src/cpu, src/cuda: pointers and extents as they are).
cd "${1:-${top_srcdir:-.}}" || exit 99
found=$(find src ir sched comm io -name '*.[ch]' -o -name '*.cu' | LC_ALL=C sort)
if [ -z "$found" ]; then
    echo "no source files"
    exit 1
fi
# clang-format has laid them out: a body begins with a { and ends with a } in the first column, its head stands right above.
# shellcheck disable=SC2086 # file names of the tree have no spaces
awk '
FNR == 1 { head = ""; excuse = ""; inside = 0 }
function parameters(text,    i, c, depth, n)
{
    sub(/^[^(]*\(/, "", text)
    sub(/\)[^)]*$/, "", text)
    n = text ~ /[a-z]/ && text != "void"
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        depth += (c == "(") - (c == ")")
        n += c == "," && depth == 0
    }
    return n - (text ~ /struct err \*e$/)
}
function complain(what)
{
    printf "%s:%d: %s: %s\n", FILENAME, begin, name, what
    bad++
}
inside && /^}/ {
    lines = FNR - begin + 1
    if (lines > 60 && excuse !~ /lines/)
        complain(lines " lines, 60 at most")
    inside = 0
    head = excuse = ""
    next
}
inside { next }
/^{$/ && head ~ /\(/ {
    inside = 1
    begin = FNR
    functions++
    name = head
    sub(/ *\(.*/, "", name)
    sub(/.*[ *]/, "", name)
    n = parameters(head)
    if (n > 6 && excuse !~ /parameters/ && FILENAME !~ /^src\/(cpu|cuda)\//)
        complain(n " parameters, 6 at most")
    next
}
/^(\/\*| \*)/ { excuse = excuse $0; head = ""; next }
/^$|^#|;$|^}/ { head = excuse = ""; next }
{ sub(/^ +/, " "); head = head $0 }
END {
    if (functions < 1000) {
        print "only " functions + 0 " functions found"
        bad++
    }
    exit bad != 0
}' $found
