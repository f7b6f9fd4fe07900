#!/bin/sh
# check.sh [CONFIGURE OPTION...]: installs what is missing, builds in ./build, runs all tests there.
set -u
cd "$(dirname "$0")/.." || exit 1
. jobscripts/lib.sh

install_packages
build_piper "$@"
say 'running the tests'
VERBOSE=1 make --no-print-directory -C build -j "$(cores)" check
