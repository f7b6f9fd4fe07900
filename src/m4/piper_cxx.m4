# PIPER_CXX: a C++17 compiler, for one use: tests that run the CUDA kernels on the host. Sets the conditional HAVE_CXX and
# CXX17_FLAG; its absence is no error.
AC_DEFUN([PIPER_CXX],[
AC_LANG_PUSH([C++])
piper_have_cxx=no
piper_keep_CXXFLAGS=$CXXFLAGS
CXX17_FLAG=-std=c++17
CXXFLAGS="$CXXFLAGS $CXX17_FLAG"
AC_MSG_CHECKING([whether $CXX compiles C++17])
AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <functional>
template <int N> int f() { if constexpr (N > 1) return N; return 0; }]],[[std::function<int()> g = f<2>; return g();]])],
  [piper_have_cxx=yes])
AC_MSG_RESULT([$piper_have_cxx])
CXXFLAGS=$piper_keep_CXXFLAGS
AC_LANG_POP([C++])
AM_CONDITIONAL([HAVE_CXX],[test "x$piper_have_cxx" = xyes])
AC_SUBST([CXX17_FLAG])
])
