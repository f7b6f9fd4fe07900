#!/bin/sh
# The table of faults names lines that stand in the code: whoever changes such a line changes its row too.
exec sh "${top_srcdir:-.}/tests/mutants/faults.sh" lines
