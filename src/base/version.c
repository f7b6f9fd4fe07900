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
