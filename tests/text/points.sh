#!/bin/sh
# time-limit: 1200
# Every code point alone, between letters, after a space and twice: the tokens that the libraries give.
POINTS=1 exec sh "${top_srcdir:-.}/tests/text/small.sh"
