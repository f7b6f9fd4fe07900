# PIPER_MPI: MPI_CFLAGS and MPI_LIBS for the rooms that may use MPI, MPIEXEC for the tests, piper_mpi_kind for PIPER_HDF5.
# Order: what the user names, the compiler as is (Cray), the wrapper in PATH (a loaded module), pkg-config. A wrapper in PATH is
# one of the machine that builds: for another one (--host) it is not asked.
AC_DEFUN([PIPER_MPI],[
AC_ARG_VAR([MPICC],[MPI compiler wrapper, asked for its flags only])
AC_ARG_VAR([MPI_CFLAGS],[C flags for MPI, overriding detection])
AC_ARG_VAR([MPI_LIBS],[linker flags for MPI, overriding detection])
AC_ARG_VAR([MPIEXEC],[MPI launcher for the tests (mpirun, mpiexec, srun)])
AC_ARG_VAR([MPIEXEC_FLAGS],[more options for it])
AC_ARG_WITH([mpi],[AS_HELP_STRING([--with-mpi=DIR],[prefix of an MPI installation])],[],[with_mpi=])
m4_pushdef([piper_include],[[#include <mpi.h>
#if MPI_VERSION < 3
#error MPI 3.0 or newer is needed
#endif]])
m4_pushdef([piper_body],[[MPI_Request r; int a = 0, b;
  MPI_Iallreduce(&a, &b, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &r);]])
AS_IF([test -n "$MPI_LIBS"],
  [PIPER_TRY_LINK([MPI],[MPI_LIBS],[$MPI_CFLAGS],[$MPI_LIBS],[piper_include],[piper_body])])
AS_IF([test -n "$with_mpi" && test -z "$MPICC"],[MPICC=$with_mpi/bin/mpicc])
AS_IF([test -z "$MPICC"],[
  PIPER_TRY_LINK([MPI],[the compiler as it is],[],[],[piper_include],[piper_body])
  AS_IF([test "x$cross_compiling" != xyes],[AC_CHECK_PROGS([MPICC],[mpicc mpiicx mpiicc])])])
AS_IF([test "x$piper_have_MPI" != xyes && test -n "$MPICC"],[
  PIPER_READ_WRAPPER([$MPICC -show])
  PIPER_TRY_LINK([MPI],[$MPICC -show],[$piper_w_cflags],[$piper_w_libs],[piper_include],[piper_body])
  PIPER_READ_WRAPPER([$MPICC -showme])
  PIPER_TRY_LINK([MPI],[$MPICC -showme],[$piper_w_cflags],[$piper_w_libs],[piper_include],[piper_body])])
m4_foreach_w([piper_module],[ompi-c mpich mpi-c],
  [PIPER_TRY_PKGCONFIG([MPI],[piper_module],[piper_include],[piper_body])])
m4_popdef([piper_include])m4_popdef([piper_body])

piper_mpi_kind=other
AS_IF([test "x$piper_have_MPI" != xyes],[
  PIPER_MISSING([MPI 3.0 or newer],[libopenmpi-dev openmpi-bin],[--with-mpi=DIR, or MPICC, or MPI_CFLAGS and MPI_LIBS],
    [module load openmpi (or mpich, intel-mpi): mpicc must be in PATH])],[
  piper_keep_CPPFLAGS=$CPPFLAGS
  CPPFLAGS="$MPI_CFLAGS $CPPFLAGS"
  AC_CHECK_DECL([OMPI_MAJOR_VERSION],[piper_mpi_kind=openmpi],[],[[#include <mpi.h>]])
  AC_CHECK_DECL([MPICH_VERSION],[piper_mpi_kind=mpich],[],[[#include <mpi.h>]])
  # does it take device memory? Open MPI says so in a header of its extensions, others in mpi.h
  piper_keep_LIBS=$LIBS
  LIBS="$MPI_LIBS $LIBS"
  AC_CHECK_HEADERS([mpi-ext.h],[],[],[[#include <mpi.h>]])
  AC_MSG_CHECKING([for MPIX_Query_cuda_support])
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>
#ifdef HAVE_MPI_EXT_H
#include <mpi-ext.h>
#endif]],[[return MPIX_Query_cuda_support();]])],
    [AC_MSG_RESULT([yes])
     AC_DEFINE([HAVE_MPIX_QUERY_CUDA_SUPPORT],[1],[MPI says at run time whether it takes device memory])],
    [AC_MSG_RESULT([no])])
  LIBS=$piper_keep_LIBS
  CPPFLAGS=$piper_keep_CPPFLAGS])
AS_IF([test -n "$with_mpi"],[piper_path=$with_mpi/bin$PATH_SEPARATOR$PATH],[piper_path=$PATH])
AC_CHECK_PROGS([MPIEXEC],[mpirun mpiexec srun],[],[$piper_path])
AS_IF([test -z "$MPIEXEC"],[AC_MSG_WARN([no mpirun, mpiexec or srun in PATH: the MPI tests will be skipped])])
])
