/* Which program this is, for --version, logs and the provenance of files. */
#ifndef PIPER_BASE_VERSION_H
#define PIPER_BASE_VERSION_H

extern const char piper_version[];  /* "0.1" */
extern const char piper_commit[];   /* "3f2a9c0d1e4b", with "-modified" where the tree had changes; or "unknown" */
extern const char piper_optional[]; /* libraries that a build can do without: "+PCRE2 +zlib +zstd -OTF2" */
extern const char piper_compiler[]; /* "gcc 12.2.0" */

#endif
