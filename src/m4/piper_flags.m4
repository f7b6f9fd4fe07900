# PIPER_CFLAGS_BEFORE, ahead of AC_PROG_CC: takes the optimisation level out of the default CFLAGS, since flags in CFLAGS
# come last on the command line and would override a target's own level. A user's CFLAGS override everything.
AC_DEFUN([PIPER_CFLAGS_BEFORE],[
AC_ARG_ENABLE([debug],[AS_HELP_STRING([--enable-debug],[check invariants of debug builds (PIPER_DEBUG), no optimisation])],
  [],[enable_debug=no])
PIPER_OPT= PIPER_OPT_KERNELS=
AS_IF([test "x${CFLAGS+set}" != xset],[
  CFLAGS=-g
  AS_IF([test "x$enable_debug" = xyes],
    [PIPER_OPT=-Og PIPER_OPT_KERNELS=-O1],
    [PIPER_OPT=-O2 PIPER_OPT_KERNELS=-O3])])
AC_SUBST([PIPER_OPT])
AC_SUBST([PIPER_OPT_KERNELS])
])

# PIPER_CFLAGS, after AC_PROG_CC: warnings, and what --enable-werror, --enable-debug, --enable-sanitize add.
AC_DEFUN([PIPER_CFLAGS],[
AC_ARG_ENABLE([werror],[AS_HELP_STRING([--enable-werror],[treat compiler warnings as errors])],[],[enable_werror=no])
AC_ARG_ENABLE([sanitize],[AS_HELP_STRING([--enable-sanitize],[build with the address and undefined-behaviour sanitizers])],
  [],[enable_sanitize=no])
PIPER_WARN="-Wall -Wextra"
AS_IF([test "x$enable_werror" = xyes],[PIPER_WARN="$PIPER_WARN -Werror"])
PIPER_DEFS=
AS_IF([test "x$enable_debug" = xyes],[PIPER_DEFS=-DPIPER_DEBUG])
PIPER_SAN=
AS_IF([test "x$enable_sanitize" = xyes],[
  PIPER_SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
  AC_MSG_CHECKING([whether $CC links with $PIPER_SAN])
  piper_keep_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $PIPER_SAN"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([],[])],[AC_MSG_RESULT([yes])],[AC_MSG_RESULT([no])
    AC_MSG_ERROR([--enable-sanitize: the sanitizer libraries are missing (gcc: libasan, libubsan; clang: libclang-rt-dev)])])
  CFLAGS=$piper_keep_CFLAGS])
AM_CONDITIONAL([SANITIZE],[test "x$enable_sanitize" = xyes])
AC_SUBST([PIPER_WARN])
AC_SUBST([PIPER_DEFS])
AC_SUBST([PIPER_SAN])
])

# PIPER_OPENMP: OPENMP_CFLAGS for the CPU kernels. --disable-openmp builds them for one thread.
AC_DEFUN([PIPER_OPENMP],[
AC_OPENMP
AS_IF([test -z "$OPENMP_CFLAGS" && test "x$enable_openmp" != xno],[
  PIPER_MISSING([OpenMP (for $CC)],[gcc, or libomp-dev for clang],[--disable-openmp (one thread a rank)],
    [a compiler with OpenMP])])
AS_IF([test -z "$OPENMP_CFLAGS"],[PIPER_WARN="$PIPER_WARN -Wno-unknown-pragmas"])
])
