# PIPER_HDF5: HDF5_CFLAGS, HDF5_LIBS of a parallel HDF5 that was built with the MPI of PIPER_MPI.
# Order: what the user names, the variables that modules set, the compiler as is (Cray), h5pcc in PATH, pkg-config.
m4_define([piper_hdf5_include],[[#include <hdf5.h>
#ifndef H5_HAVE_PARALLEL
#error this HDF5 is serial
#endif]])
m4_define([piper_hdf5_body],[[hid_t p = H5Pcreate(H5P_FILE_ACCESS);
  return H5Pset_fapl_mpio(p, MPI_COMM_WORLD, MPI_INFO_NULL) < 0;]])

# _PIPER_HDF5_LINK(HOW, CFLAGS, LIBS)
AC_DEFUN([_PIPER_HDF5_LINK],
[PIPER_TRY_LINK([HDF5],[$1],[$2 $MPI_CFLAGS],[$3 $MPI_LIBS],[piper_hdf5_include],[piper_hdf5_body])])

# _PIPER_HDF5_WRAPPER(PROGRAM): the wrapper's own flags with -lhdf5 alone, then with all it lists, then its prefix.
AC_DEFUN([_PIPER_HDF5_WRAPPER],[
AS_IF([test "x$piper_have_HDF5" != xyes && test -n "$1"],[
  PIPER_READ_WRAPPER([$1 -shlib -show])
  piper_h5_dirs=
  for piper_word in $piper_w_libs; do
    AS_CASE([$piper_word],[-L*|-Wl,-rpath*],[piper_h5_dirs="$piper_h5_dirs $piper_word"],
      [*/libhdf5.*],[piper_h5_dirs="$piper_h5_dirs -L`AS_DIRNAME(["$piper_word"])`"])
  done
  _PIPER_HDF5_LINK([$1],[$piper_w_cflags],[$piper_h5_dirs -lhdf5])
  _PIPER_HDF5_LINK([$1, all its libraries],[$piper_w_cflags],[$piper_w_libs])
  AS_CASE([$1],[*/*],[piper_prog=$1],[piper_prog=`command -v $1`])
  piper_dir=`AS_DIRNAME(["$piper_prog"])`
  piper_dir=`AS_DIRNAME(["$piper_dir"])`
  _PIPER_HDF5_PREFIX([$piper_dir])])])

# _PIPER_HDF5_PREFIX(DIR)
AC_DEFUN([_PIPER_HDF5_PREFIX],[
for piper_lib in lib lib64; do
  AS_IF([test -n "$1" && test -f "$1/include/hdf5.h" && test -d "$1/$piper_lib"],
    [_PIPER_HDF5_LINK([$1/$piper_lib],[-I$1/include],[-L$1/$piper_lib -Wl,-rpath,$1/$piper_lib -lhdf5])])
done])

AC_DEFUN([PIPER_HDF5],[
AC_ARG_VAR([H5PCC],[compiler wrapper of a parallel HDF5, asked for its flags only])
AC_ARG_VAR([HDF5_CFLAGS],[C flags for a parallel HDF5, overriding detection])
AC_ARG_VAR([HDF5_LIBS],[linker flags for a parallel HDF5, overriding detection])
AC_ARG_WITH([hdf5],[AS_HELP_STRING([--with-hdf5=DIR],[prefix of a parallel HDF5])],[],[with_hdf5=])
AS_IF([test "x$piper_have_MPI" = xyes],[
  AS_IF([test -n "$HDF5_LIBS"],[_PIPER_HDF5_LINK([HDF5_LIBS],[$HDF5_CFLAGS],[$HDF5_LIBS])])
  AS_IF([test -n "$with_hdf5"],[
    _PIPER_HDF5_PREFIX([$with_hdf5])
    AS_IF([test -x "$with_hdf5/bin/h5pcc"],[_PIPER_HDF5_WRAPPER([$with_hdf5/bin/h5pcc])])
    AS_IF([test "x$piper_have_HDF5" != xyes],
      [AC_MSG_ERROR([--with-hdf5=$with_hdf5: no HDF5 there that is parallel and links with $piper_how_MPI])])])
  AS_IF([test -n "$H5PCC"],[_PIPER_HDF5_WRAPPER([$H5PCC])
    AS_IF([test "x$piper_have_HDF5" != xyes],
      [AC_MSG_ERROR([H5PCC=$H5PCC: gives no HDF5 that is parallel and links with $piper_how_MPI])])])
  for piper_d in "$HDF5_DIR" "$HDF5_ROOT" "$HDF5_HOME" "$HDF5_BASE"; do
    _PIPER_HDF5_PREFIX([$piper_d])
  done
  _PIPER_HDF5_LINK([the compiler as it is],[],[-lhdf5])
  AS_IF([test "x$piper_have_HDF5" != xyes && test "x$cross_compiling" != xyes],[
    AC_CHECK_PROGS([H5PCC],[h5pcc.$piper_mpi_kind h5pcc])
    _PIPER_HDF5_WRAPPER([$H5PCC])])
  for piper_module in hdf5-$piper_mpi_kind hdf5-mpi hdf5; do
    PIPER_TRY_PKGCONFIG([HDF5],[$piper_module],[piper_hdf5_include],[piper_hdf5_body])
  done])
AS_IF([test "x$piper_have_HDF5" != xyes],[
  PIPER_MISSING([parallel HDF5 (built with the same MPI)],[libhdf5-openmpi-dev (or libhdf5-mpich-dev)],
    [--with-hdf5=DIR, or H5PCC, or HDF5_CFLAGS and HDF5_LIBS],
    [module load hdf5-parallel, phdf5, hdf5-mpi or the like (HDF5_DIR, HDF5_ROOT, HDF5_HOME, HDF5_BASE are read)])])
])
