#include "base/version.h"

#include "base/commit.h"
#include "build-config.h"

const char piper_version[] = PACKAGE_VERSION;
const char piper_commit[] = PIPER_COMMIT;
