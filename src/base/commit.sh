#!/bin/sh
# commit.sh SRCDIR [HEADER]: prints the git commit of the source tree ("unknown" without one), or keeps a header with it
# up to date.
dir=$1
header=${2-}

commit=unknown
if [ -e "$dir/.git" ] && found=$(git -C "$dir" rev-parse --short=12 HEAD 2>/dev/null); then
    commit=$found
    git -C "$dir" diff --quiet HEAD 2>/dev/null || commit=$commit-modified
elif [ -f "$dir/.tarball-commit" ]; then
    commit=$(cat "$dir/.tarball-commit")
fi

if [ -z "$header" ]; then
    echo "$commit"
    exit 0
fi
line="#define PIPER_COMMIT \"$commit\""
if [ "$line" != "$(cat "$header" 2>/dev/null)" ]; then
    echo "$line" >"$header"
fi
