# PIPER_JANSSON: JANSSON_CFLAGS, JANSSON_LIBS.
AC_DEFUN([PIPER_JANSSON],[
AC_ARG_VAR([JANSSON_CFLAGS],[C flags for jansson, overriding detection])
AC_ARG_VAR([JANSSON_LIBS],[linker flags for jansson, overriding detection])
AC_ARG_WITH([jansson],[AS_HELP_STRING([--with-jansson=DIR],[prefix of jansson])],[],[with_jansson=])
m4_pushdef([piper_include],[[#include <jansson.h>
#if JANSSON_VERSION_HEX < 0x020700
#error jansson 2.7 or newer is needed
#endif]])
m4_pushdef([piper_body],[[json_decref(json_object());]])
AS_IF([test -n "$JANSSON_LIBS"],
  [PIPER_TRY_LINK([JANSSON],[JANSSON_LIBS],[$JANSSON_CFLAGS],[$JANSSON_LIBS],[piper_include],[piper_body])])
for piper_dir in "$with_jansson" "$JANSSON_DIR" "$JANSSON_ROOT"; do
  PIPER_TRY_PREFIX([JANSSON],[$piper_dir],[-ljansson],[piper_include],[piper_body])
done
PIPER_TRY_PKGCONFIG([JANSSON],[jansson],[piper_include],[piper_body])
PIPER_TRY_LINK([JANSSON],[-ljansson],[],[-ljansson],[piper_include],[piper_body])
m4_popdef([piper_include])m4_popdef([piper_body])
AS_IF([test "x$piper_have_JANSSON" != xyes],[
  PIPER_MISSING([jansson 2.7 or newer (JSON)],[libjansson-dev],[--with-jansson=DIR, or JANSSON_CFLAGS and JANSSON_LIBS],
    [module load jansson (JANSSON_DIR and JANSSON_ROOT are read)])])
])

# PIPER_CBLAS: CBLAS_CFLAGS, CBLAS_LIBS, CBLAS_HEADER (MKL's has another name).
AC_DEFUN([PIPER_CBLAS],[
AC_ARG_VAR([CBLAS_CFLAGS],[C flags for a library with cblas.h, overriding detection])
AC_ARG_VAR([CBLAS_LIBS],[linker flags for it])
AC_ARG_WITH([openblas],[AS_HELP_STRING([--with-openblas=DIR],[prefix of OpenBLAS])],[],[with_openblas=])
m4_pushdef([piper_include],[[#include <cblas.h>]])
m4_pushdef([piper_body],[[float a = 1, b = 1, c = 0;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, 1, 1, 1, 1.0f, &a, 1, &b, 1, 0.0f, &c, 1);]])
AS_IF([test -n "$CBLAS_LIBS"],
  [PIPER_TRY_LINK([CBLAS],[CBLAS_LIBS],[$CBLAS_CFLAGS],[$CBLAS_LIBS],[piper_include],[piper_body])])
for piper_dir in "$with_openblas" "$OPENBLAS_DIR" "$OPENBLAS_ROOT" "$OPENBLAS_HOME"; do
  PIPER_TRY_PREFIX([CBLAS],[$piper_dir],[-lopenblas],[piper_include],[piper_body])
done
m4_foreach_w([piper_module],[openblas flexiblas blis cblas],
  [PIPER_TRY_PKGCONFIG([CBLAS],[piper_module],[piper_include],[piper_body])])
PIPER_TRY_LINK([CBLAS],[-lopenblas],[],[-lopenblas],[piper_include],[piper_body])
PIPER_TRY_LINK([CBLAS],[-lopenblas, openblas/cblas.h],[-I/usr/include/openblas],[-lopenblas],[piper_include],[piper_body])
PIPER_TRY_LINK([CBLAS],[-lblas],[],[-lblas],[piper_include],[piper_body])
PIPER_TRY_LINK([CBLAS],[-lcblas -lblas],[],[-lcblas -lblas],[piper_include],[piper_body])
piper_cblas_header='<cblas.h>'
AS_IF([test "x$piper_have_CBLAS" != xyes],[piper_cblas_header='<mkl_cblas.h>'])
PIPER_TRY_LINK([CBLAS],[MKL],[${MKLROOT:+-I$MKLROOT/include}],[${MKLROOT:+-L$MKLROOT/lib/intel64 }-lmkl_rt],
  [[#include <mkl_cblas.h>]],[piper_body])
m4_popdef([piper_include])m4_popdef([piper_body])
AS_IF([test "x$piper_have_CBLAS" != xyes],[
  PIPER_MISSING([a BLAS with cblas.h],[libopenblas-pthread-dev],[--with-openblas=DIR, or CBLAS_CFLAGS and CBLAS_LIBS],
    [module load openblas or mkl (OPENBLAS_DIR, OPENBLAS_ROOT, OPENBLAS_HOME, MKLROOT are read)])],[
  AC_DEFINE_UNQUOTED([CBLAS_HEADER],[$piper_cblas_header],[the header that declares cblas_sgemm])])
])

# PIPER_CHECK: CHECK_CFLAGS, CHECK_LIBS and the conditional HAVE_CHECK. Optional: without it unit tests are left out.
AC_DEFUN([PIPER_CHECK],[
AC_ARG_WITH([check],[AS_HELP_STRING([--without-check],[leave the unit tests out, though the Check library is there])],[],
  [with_check=yes])
AC_ARG_VAR([CHECK_CFLAGS],[C flags for the Check unit test library, overriding detection])
AC_ARG_VAR([CHECK_LIBS],[linker flags for it])
m4_pushdef([piper_include],[[#include <check.h>
#if CHECK_MAJOR_VERSION == 0 && CHECK_MINOR_VERSION < 11
#error Check 0.11 or newer is needed
#endif]])
m4_pushdef([piper_body],[[srunner_free(srunner_create(suite_create("s")));]])
AS_IF([test "x$with_check" != xno],[
  AS_IF([test -n "$CHECK_LIBS"],
    [PIPER_TRY_LINK([CHECK],[CHECK_LIBS],[$CHECK_CFLAGS],[$CHECK_LIBS],[piper_include],[piper_body])])
  PIPER_TRY_PKGCONFIG([CHECK],[check],[piper_include],[piper_body])
  PIPER_TRY_LINK([CHECK],[-lcheck],[],[-lcheck],[piper_include],[piper_body])])
m4_popdef([piper_include])m4_popdef([piper_body])
AS_IF([test "x$with_check" = xno],[piper_how_CHECK="--without-check: unit tests are left out"],
  [test "x$piper_have_CHECK" != xyes],[piper_how_CHECK="not found: unit tests are left out"])
# where its header is, for all compilations: a test has no flags of its own
CHECK_CPPFLAGS=
for piper_word in $CHECK_CFLAGS; do
  AS_CASE([$piper_word],[-I*],[CHECK_CPPFLAGS="$CHECK_CPPFLAGS $piper_word"])
done
AC_SUBST([CHECK_CPPFLAGS])
AM_CONDITIONAL([HAVE_CHECK],[test "x$piper_have_CHECK" = xyes])
])

# PIPER_OPTIONAL(NAME, MODULE, LIBRARY FLAG, PROLOGUE, BODY, WHAT IS LEFT OUT): a library that the program can do without.
# NAME_CFLAGS, NAME_LIBS and HAVE_NAME.
AC_DEFUN([PIPER_OPTIONAL],[
AC_ARG_VAR([$1_CFLAGS],[C flags for $2, overriding detection])
AC_ARG_VAR([$1_LIBS],[linker flags for it])
AS_IF([test -n "$$1_LIBS"],[PIPER_TRY_LINK([$1],[$1_LIBS],[$$1_CFLAGS],[$$1_LIBS],[$4],[$5])])
PIPER_TRY_PKGCONFIG([$1],[$2],[$4],[$5])
PIPER_TRY_LINK([$1],[$3],[],[$3],[$4],[$5])
AS_IF([test "x$piper_have_$1" = xyes],[AC_DEFINE([HAVE_$1],[1],[$2 is there])],
  [piper_how_$1="not found: $6"; $1_CFLAGS=; $1_LIBS=])
])

# PIPER_TEXT_LIBS: what readers of text and tokenizers use where it is there.
AC_DEFUN([PIPER_TEXT_LIBS],[
PIPER_OPTIONAL([PCRE2],[libpcre2-8],[-lpcre2-8],[[#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>]],[[pcre2_match_context *c = pcre2_match_context_create(NULL);
  pcre2_set_heap_limit(c, 1);
  pcre2_match_context_free(c);]],[tokenizers with unusual patterns are refused])
PIPER_OPTIONAL([ZLIB],[zlib],[-lz],[[#include <zlib.h>]],[[z_stream z = {0}; inflateInit2(&z, 31);]],
  [.gz files are refused])
PIPER_OPTIONAL([ZSTD],[libzstd],[-lzstd],[[#include <zstd.h>]],[[ZSTD_freeDStream(ZSTD_createDStream());]],
  [.zst files are refused])
])

# PIPER_OTF2: OTF2_CFLAGS, OTF2_LIBS and the conditional HAVE_OTF2. Optional: archives of traces for Vampir. Debian gives the
# library a name of its own; elsewhere otf2-config is in PATH.
AC_DEFUN([PIPER_OTF2],[
m4_pushdef([piper_include],[[#include <otf2/otf2.h>]])
m4_pushdef([piper_body],[[OTF2_GlobalDefWriter_WriteComm(NULL, 0, 0, 0, 0, OTF2_COMM_FLAG_NONE); /* version 3 */]])
AS_IF([test -z "$OTF2_LIBS" && test "x$cross_compiling" != xyes],[
  piper_otf2_prefix=`otf2-config --prefix 2>/dev/null`
  PIPER_TRY_PREFIX([OTF2],[$piper_otf2_prefix],[-lotf2],[piper_include],[piper_body])])
PIPER_OPTIONAL([OTF2],[otf2],[-lopen-trace-format2],[piper_include],[piper_body],
  [piper trace --otf2 is refused (Debian, Ubuntu: libopen-trace-format2-dev)])
m4_popdef([piper_include])m4_popdef([piper_body])
AM_CONDITIONAL([HAVE_OTF2],[test "x$piper_have_OTF2" = xyes])
])
