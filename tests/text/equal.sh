#!/bin/sh
# time-limit: 3600
# All tokens of 5 MB and of every code point, for every kind of tokenizer, against the library `tokenizers`: PYTHON names a python3
# that has it.
src=${top_srcdir:-.}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" "$src/tests/text/equal.py" "${top_builddir:-.}/tests/text/encode" "$dir" "${BYTES:-5000000}"
