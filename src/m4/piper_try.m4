# PIPER_TRY_LINK(NAME, HOW, CPPFLAGS, LIBS, PROLOGUE, BODY)
# One candidate for a dependency. The first that links is taken: NAME_CFLAGS, NAME_LIBS, piper_have_NAME=yes,
# piper_how_NAME=HOW. Later candidates are then not tried.
AC_DEFUN([PIPER_TRY_LINK],[
AS_IF([test "x$piper_have_$1" != xyes],[
  AC_MSG_CHECKING([for $1 ($2)])
  piper_keep_CPPFLAGS=$CPPFLAGS piper_keep_LIBS=$LIBS
  CPPFLAGS="$3 $CPPFLAGS"
  LIBS="$4 $LIBS"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([$5],[$6])],
    [piper_have_$1=yes; piper_how_$1="$2"; $1_CFLAGS="$3"; $1_LIBS="$4"],
    [piper_have_$1=no])
  CPPFLAGS=$piper_keep_CPPFLAGS LIBS=$piper_keep_LIBS
  AC_MSG_RESULT([$piper_have_$1])
])])

# PIPER_READ_WRAPPER(COMMAND...): sorts the output of a compiler wrapper's -show into piper_w_cflags and piper_w_libs;
# both are empty where the wrapper does not answer.
AC_DEFUN([PIPER_READ_WRAPPER],[
piper_w_cflags= piper_w_libs=
for piper_word in `$1 2>/dev/null`; do
  AS_CASE([$piper_word],
    [-I*|-D*],[piper_w_cflags="$piper_w_cflags $piper_word"],
    [-L*|-l*|-Wl,*],[piper_w_libs="$piper_w_libs $piper_word"],
    [*/lib*.so|*/lib*.a],[piper_w_libs="$piper_w_libs $piper_word"])
done])

# PIPER_TRY_PKGCONFIG(NAME, MODULE, PROLOGUE, BODY)
AC_DEFUN([PIPER_TRY_PKGCONFIG],[
AS_IF([test "x$piper_have_$1" != xyes && test -n "$PKG_CONFIG" && $PKG_CONFIG --exists $2 2>/dev/null],[
  piper_p_cflags=`$PKG_CONFIG --cflags $2`
  piper_p_libs=`$PKG_CONFIG --libs $2`
  PIPER_TRY_LINK([$1],[pkg-config $2],[$piper_p_cflags],[$piper_p_libs],[$3],[$4])])])

# PIPER_TRY_PREFIX(NAME, DIR, LIBRARY FLAGS, PROLOGUE, BODY): an installation under DIR, lib or lib64. DIR may be empty.
AC_DEFUN([PIPER_TRY_PREFIX],[
for piper_lib in lib lib64; do
  AS_IF([test -n "$2" && test -d "$2/$piper_lib"],[
    PIPER_TRY_LINK([$1],[$2/$piper_lib],[-I$2/include],[-L$2/$piper_lib -Wl,-rpath,$2/$piper_lib $3],[$4],[$5])])
done])

# PIPER_MISSING(NAME, DEBIAN PACKAGES, HOW TO NAME IT BY HAND, MODULE HINT)
# Notes a missing dependency; configure goes on, so that one run lists everything that is missing.
AC_DEFUN([PIPER_MISSING],[
piper_missing="$piper_missing
  $1
      Debian, Ubuntu:  apt-get install $2
      by hand:         $3
      with modules:    $4"])

AC_DEFUN([PIPER_MISSING_REPORT],[
AS_IF([test -n "$piper_missing"],[AC_MSG_ERROR([these are needed and were not found (details: config.log):
$piper_missing
])])])
