#!/usr/bin/env python3
"""unicode_table.py [DIR] > unicode_table.c: the tables of src/text from Debian's package unicode-data (DIR is /usr/share/unicode).

Ranges of equal class, canonical combining classes, and canonical decompositions. Nothing runs it but a person who wants
another Unicode version; the version is named in the table, and tests/text compares a few of its facts.
"""
import re
import sys

folder = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode"
MOST = 0x110000
GC = "Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs".split()


def properties(name):
    """Lines `first..last ; property [; value] # ...` of a file."""
    with open(f"{folder}/{name}", encoding="utf-8") as f:
        for line in f:
            fields = [x.strip() for x in line.split("#")[0].split(";")]
            if len(fields) >= 2:
                ends = fields[0].split("..")
                yield range(int(ends[0], 16), int(ends[-1], 16) + 1), fields[1:]


def ranges(value):
    """(first, value) wherever the value changes."""
    last = None
    for c in range(MOST):
        if value[c] != last:
            last = value[c]
            yield c, last


kind = [0] * MOST
combining = [0] * MOST
decomposed = {}
first = None
with open(f"{folder}/UnicodeData.txt", encoding="utf-8") as f:
    for line in f:
        field = line.split(";")
        c = int(field[0], 16)
        if field[1].endswith(", First>"):
            first = c
            continue
        for x in range(first if first is not None else c, c + 1):
            kind[x] = GC.index(field[2])
            combining[x] = int(field[3])
        first = None
        if field[5] and not field[5].startswith("<"):
            decomposed[c] = [int(x, 16) for x in field[5].split()]
for span, field in properties("DerivedCoreProperties.txt"):
    if field[0] == "Alphabetic":
        for c in span:
            kind[c] |= 0x20
for span, field in properties("PropList.txt"):
    if field[0] == "White_Space":
        for c in span:
            kind[c] |= 0x40
excluded = set()
for span, field in properties("DerivedNormalizationProps.txt"):
    if field[0] == "NFC_QC":
        for c in span:
            kind[c] |= 0x80
    if field[0] == "Full_Composition_Exclusion":
        excluded.update(span)
for c in range(MOST):
    if combining[c]:
        kind[c] |= 0x80
with open(f"{folder}/ReadMe.txt", encoding="utf-8") as f:
    version = re.search(r"Version (\d+\.\d+\.\d+)", f.read())[1]


def table(declaration, rows):
    print(f"const {declaration} = {{")
    line = "   "
    for row in rows:
        if len(line) + len(row) > 118:
            print(line)
            line = "   "
        line += f" {row},"
    print(line)
    print("};")


print(f"""/* Made by src/text/unicode_table.py from Unicode {version} (Debian's unicode-data). */
/* clang-format off */
#include "text/unicode_table.h"

const char unicode_version[] = "{version}";
""")
rows = [f"0x{c << 8 | v:x}" for c, v in ranges(kind)]
table("uint32_t unicode_kinds[]", rows)
print(f"const uint32_t unicode_n_kinds = {len(rows)};\n")
rows = [f"0x{c << 8 | v:x}" for c, v in ranges(combining)]
table("uint32_t unicode_combining[]", rows)
print(f"const uint32_t unicode_n_combining = {len(rows)};\n")
rows = []
for c, parts in sorted(decomposed.items()):
    parts = parts + [0] if len(parts) == 1 else parts
    rows.append(f"{{0x{c:x}, 0x{parts[0]:x}, 0x{parts[1]:x}, {int(c not in excluded)}}}")
table("struct unicode_pair unicode_pairs[]", rows)
print(f"const uint32_t unicode_n_pairs = {len(rows)};")
