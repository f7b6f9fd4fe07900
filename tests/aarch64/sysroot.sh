#!/bin/sh
# sysroot.sh DIR: makes DIR what a build for aarch64 needs of another machine: the libraries and headers of this Debian or Ubuntu for
# arm64, of the packages that quickstart.sh installs, fetched by apt and unpacked (about 180 packages, 122 MB, 570 MB unpacked). It needs no
# root, and changes nothing here. The compiler and the emulator are packages of this machine:
#
#     apt-get install --no-install-recommends gcc-aarch64-linux-gnu qemu-user
#     tests/aarch64/sysroot.sh DIR
#     PIPER_AARCH64_ROOT=DIR make check-long LONG_TESTS=tests/aarch64/aarch64.sh
set -u
if [ $# -ne 1 ]; then
    echo 'usage: sysroot.sh DIR' >&2
    exit 64
fi
root=$1
cd "$(dirname "$0")/../.." && . jobscripts/lib.sh && cd "$OLDPWD" || exit 1
[ ! -e "$root" ] || die "$root exists already; expected the name of a new directory"
{ command -v apt-get && command -v dpkg-deb; } >/dev/null || die 'no apt-get and dpkg-deb on this machine; expected Debian or Ubuntu'
mkdir -p "$root" || die "$root: cannot create directory"
root=$(cd "$root" && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"; rmdir "$root" 2>/dev/null' EXIT # where nothing has come
trap 'exit 1' HUP INT TERM

# an apt for a machine that has nothing yet, with this one's sources
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
: >"$work/state/status"
cat >"$work/apt.conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State "$work/state";
Dir::State::status "$work/state/status";
Dir::Cache "$work/cache";
APT::Sandbox::User "";
CONF
export APT_CONFIG="$work/apt.conf"
apt-get update -q || die "apt has no lists for arm64; on Ubuntu its sources must name ports.ubuntu.com"
packages=$(for choice in $PIPER_PACKAGES; do echo "${choice%%|*}"; done | grep -E '^(lib.*-dev|zlib.*|check)$')
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --download-only --no-install-recommends $packages || die 'apt cannot fetch the packages for arm64; its reason is above'
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$root" || die "$package: cannot unpack it into $root"
done
# what installing would have chosen among the BLAS
for library in "$root"/usr/lib/aarch64-linux-gnu/openblas-*/libopenblas.so*; do
    ln -s "${library#"$root"/usr/lib/aarch64-linux-gnu/}" "$root/usr/lib/aarch64-linux-gnu/" || die "$root: cannot link ${library##*/}"
done
say "$root is complete: $(du -sm "$root" | cut -f 1) MB"
