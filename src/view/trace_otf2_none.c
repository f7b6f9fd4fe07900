/* A build without the OTF2 library. */
#include "view/trace_files.h"

enum status trace_otf2(const struct trace_walk *w, const char *name, const char *path, struct err *e)
{
    (void)w, (void)name, (void)path;
    return err_set(e, ST_USAGE, "--otf2",
                   "this build has no OTF2; install libopen-trace-format2-dev (or OTF2 3 of your site), then configure "
                   "and make again; --perfetto FILE works without it");
}
