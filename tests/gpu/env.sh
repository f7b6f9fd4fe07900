# shellcheck shell=sh
# Of a folder that tests/gpu/pack.sh made: cd FOLDER && . ./env.sh; then ./build/piper and mpirun are those of the folder.
# PIPER_PACK names the folder where it is not the current one. It may be read-only.
PIPER_PACK=${PIPER_PACK:-$PWD}
if [ ! -x "$PIPER_PACK/mpi/bin/mpirun" ]; then
    echo "env.sh: there is no mpi/bin/mpirun in $PIPER_PACK: go to the packed folder first, or name it in PIPER_PACK" >&2
    unset PIPER_PACK
    # shellcheck disable=SC2317 # where it is not read by a shell but run
    return 1 2>/dev/null || exit 1
fi
PATH=$PIPER_PACK/mpi/bin:$PATH
PIPER_HOST_LIBRARIES=${PIPER_HOST_LIBRARIES-${LD_LIBRARY_PATH-}} # for programs that are not of the folder

# Libraries that tools of this host may load too are taken from the folder only where the host has none.
piper_spare=
for piper_file in "$PIPER_PACK"/spare/*; do
    [ -e "$piper_file" ] || continue
    piper_name=${piper_file##*/} piper_found=
    for piper_dir in /lib /usr/lib /lib64 /usr/lib64 /lib/*-linux-gnu /usr/lib/*-linux-gnu; do
        [ ! -e "$piper_dir/$piper_name" ] || piper_found=yes
    done
    if [ -n "$piper_found" ]; then
        rm -f "$PIPER_PACK/lib/$piper_name" 2>/dev/null || :
    elif [ ! -e "$PIPER_PACK/lib/$piper_name" ]; then
        ln -s "../spare/$piper_name" "$PIPER_PACK/lib/$piper_name" 2>/dev/null || piper_spare=:$PIPER_PACK/spare
    fi
done
LD_LIBRARY_PATH=$PIPER_PACK/lib$piper_spare${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# packed --without-libraries: CUDA's are the host's, of a toolkit or of Python's wheels
PIPER_CUDA_LIBRARIES=
piper_wheels=$(LD_LIBRARY_PATH=$PIPER_HOST_LIBRARIES python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null) ||
    piper_wheels=/nowhere
for piper_dir in "${CUDA_HOME:-/usr/local/cuda}/lib64" "${CUDA_HOME:-/usr/local/cuda}"/targets/*/lib \
    "$piper_wheels"/cu[1-9]*/lib "$piper_wheels"/cublas/lib "$piper_wheels"/cudnn/lib "$piper_wheels"/nccl/lib \
    "$piper_wheels"/cuda_nvrtc/lib; do
    [ ! -d "$piper_dir" ] || PIPER_CUDA_LIBRARIES=$PIPER_CUDA_LIBRARIES:$piper_dir
done
LD_LIBRARY_PATH=$LD_LIBRARY_PATH$PIPER_CUDA_LIBRARIES
unset piper_wheels piper_file piper_name piper_found piper_dir piper_spare

# Open MPI and PMIx were built for another place.
OPAL_PREFIX=$PIPER_PACK/mpi OPAL_BINDIR=$PIPER_PACK/mpi/bin OPAL_LIBDIR=$PIPER_PACK/lib
OPAL_PKGLIBDIR=$PIPER_PACK/mpi/plugins OPAL_PKGDATADIR=$PIPER_PACK/mpi/share OPAL_DATADIR=$PIPER_PACK/mpi/share
OPAL_SYSCONFDIR=$PIPER_PACK/mpi/etc
PMIX_PREFIX=$PIPER_PACK/mpi PMIX_LIBDIR=$PIPER_PACK/lib PMIX_PKGLIBDIR=$PIPER_PACK/mpi/pmix
PMIX_PKGDATADIR=$PIPER_PACK/mpi/share PMIX_DATADIR=$PIPER_PACK/mpi/share PMIX_SYSCONFDIR=$PIPER_PACK/mpi/etc
# one machine: root may be all there is, there may be no ssh, hwloc's plug-ins are not here
OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm_rsh_agent=false
OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none HWLOC_PLUGINS_PATH=$PIPER_PACK/none
export PIPER_PACK PIPER_HOST_LIBRARIES PIPER_CUDA_LIBRARIES PATH LD_LIBRARY_PATH OPAL_PREFIX OPAL_BINDIR OPAL_LIBDIR OPAL_PKGLIBDIR OPAL_PKGDATADIR OPAL_DATADIR \
    OPAL_SYSCONFDIR PMIX_PREFIX PMIX_LIBDIR PMIX_PKGLIBDIR PMIX_PKGDATADIR PMIX_DATADIR PMIX_SYSCONFDIR \
    OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM OMPI_MCA_plm_rsh_agent OMPI_MCA_rmaps_base_oversubscribe \
    OMPI_MCA_hwloc_base_binding_policy HWLOC_PLUGINS_PATH
