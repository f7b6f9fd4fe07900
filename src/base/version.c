#include "base/version.h"

#include "base/commit.h"
#include "build-config.h"

const char piper_version[] = PACKAGE_VERSION;
const char piper_commit[] = PIPER_COMMIT;
#ifdef __clang__
const char piper_compiler[] = __VERSION__;
#else
const char piper_compiler[] = "gcc " __VERSION__;
#endif

#ifdef HAVE_PCRE2
#define PCRE2 "+PCRE2"
#else
#define PCRE2 "-PCRE2"
#endif
#ifdef HAVE_ZLIB
#define ZLIB "+zlib"
#else
#define ZLIB "-zlib"
#endif
#ifdef HAVE_ZSTD
#define ZSTD "+zstd"
#else
#define ZSTD "-zstd"
#endif
#ifdef HAVE_OTF2
#define OTF2 "+OTF2"
#else
#define OTF2 "-OTF2"
#endif
const char piper_optional[] = PCRE2 " " ZLIB " " ZSTD " " OTF2;
