# shellcheck shell=sh
# Shared by the scripts next to it: install missing packages, build, run on several MPI ranks of this machine.
# The caller is in the root of the source tree.

say()
{
    printf '\n== %s\n' "$*"
}

die()
{
    printf '%s\n' "$*" >&2
    exit 1
}

# Debian and Ubuntu packages that a build needs. "a|b": either will do, the first is installed.
PIPER_PACKAGES='gcc libc6-dev make autoconf automake libtool pkgconf|pkg-config libopenmpi-dev openmpi-bin
    libhdf5-openmpi-dev libopenblas-pthread-dev|libopenblas-dev|libopenblas-openmp-dev libjansson-dev check
    libpcre2-dev zlib1g-dev libzstd-dev libopen-trace-format2-dev'

# What some tests need beside that; without them they are skipped, or test less.
PIPER_TEST_PACKAGES='slurm-wlm slurm-wlm-basic-plugins munge shellcheck otf2-tools'

package_installed()
{
    dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

missing_packages()
{
    for choice in $PIPER_PACKAGES ${with_tests:+$PIPER_TEST_PACKAGES}; do
        found=no
        for package in $(echo "$choice" | tr '|' ' '); do
            if package_installed "$package"; then
                found=yes
            fi
        done
        [ $found = yes ] || echo "${choice%%|*}"
    done
}

# Installs what is missing, with sudo where we are not root. Where there is no apt-get the tools must be there already
# (modules); configure says what is missing. PIPER_NO_INSTALL=1 leaves the machine as it is.
install_packages()
{
    if [ -n "${PIPER_NO_INSTALL-}" ] || ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        return 0
    fi
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0

    say "installing $missing"
    # shellcheck disable=SC2086 # lists of words
    if as_root apt-get update -q && as_root apt-get install -y -q --no-install-recommends $missing; then
        return 0
    fi
    die "Installing packages failed. If you are not root and cannot use sudo, ask your administrator for
    apt-get install --no-install-recommends $missing
or load modules that provide the same and rerun with PIPER_NO_INSTALL=1."
}

# Runs a command as root. Without a terminal sudo could not ask for a password, so it must not try.
as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@" </dev/null
    elif ! command -v sudo >/dev/null; then
        return 1
    elif [ -t 0 ]; then
        sudo DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo -n DEBIAN_FRONTEND=noninteractive "$@" </dev/null
    fi
}

cores()
{
    getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1
}

# build_piper [CONFIGURE OPTION...]: the program build/piper. Configures when that has not been done, when the build
# files changed, or when options are given.
build_piper()
{
    if [ ! -f configure ] || [ -n "$(find configure.ac src/m4/piper_*.m4 -newer configure)" ]; then
        say 'running autoreconf'
        autoreconf -i || die 'autoreconf failed: it requires autoconf, automake and libtool'
    fi
    mkdir -p build
    if [ $# -gt 0 ] || [ ! -f build/config.status ] || [ -n "$(find configure -newer build/config.status)" ]; then
        say 'configuring in build/'
        (cd build && ../configure "$@") >build/configure.out 2>&1 || {
            tail -n 30 build/configure.out >&2
            die 'configure failed; its full output is in build/configure.out'
        }
        sed -n '/is configured$/,$p' build/configure.out
    fi
    say "building with $(cores) jobs"
    make --no-print-directory -C build -j "$(cores)" || die 'the build failed'
}

# mpi_run RANKS PROGRAM [ARGUMENT...]: all ranks on this machine, one thread each, more ranks than cores if need be.
mpi_run()
{
    ranks=$1
    shift
    launcher=${MPIEXEC:-mpirun}
    case $("$launcher" --version 2>&1) in
    *"Open MPI"* | *OpenRTE* | *PRTE* | *prte*)
        set -- -q -n "$ranks" "$@"
        # root is refused by default (containers run as root); ranks wait without burning the core of another
        OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
        PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe PRTE_MCA_hwloc_default_binding_policy=none
        export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_rmaps_base_oversubscribe \
            OMPI_MCA_mpi_yield_when_idle OMPI_MCA_hwloc_base_binding_policy PRTE_MCA_rmaps_default_mapping_policy \
            PRTE_MCA_hwloc_default_binding_policy
        ;;
    *) set -- -n "$ranks" "$@" ;;
    esac
    OMP_NUM_THREADS=${OMP_NUM_THREADS-1} OPENBLAS_NUM_THREADS=1
    export OMP_NUM_THREADS OPENBLAS_NUM_THREADS
    "$launcher" "$@"
}
