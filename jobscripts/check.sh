#!/bin/sh
# check.sh [CONFIGURE OPTION...]: installs what is missing, builds in ./build, runs all tests there. With
# PIPER_TEST_SLURM=1 also installs Slurm, munge, shellcheck and OTF2, which a few tests need and else skip.
set -u
cd "$(dirname "$0")/.." || exit 1
. jobscripts/lib.sh

# shellcheck disable=SC2034 # read by lib.sh
with_tests=${PIPER_TEST_SLURM-}
install_packages
build_piper "$@"
say 'running the tests'
# one more than there are cores: tests wait half of their time
VERBOSE=1 make --no-print-directory -C build -j "$(($(cores) + 1))" check
