#!/bin/sh
# time-limit: 240
# All strategies of the zoo: see zoo.sh.
ZOO=all exec sh "${top_srcdir:-.}/tests/zoo/zoo.sh"
