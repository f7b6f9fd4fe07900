/* Shared libraries that are loaded when something needs them: a program starts, and does all that it can, on a machine that does
 * not have them. The functions of one keep their names: a file defines each as a call through the table that is filled here.
 *
 *     #define CALLS(X) X(int, name_of_it, (int argument), (argument)) ...
 *     static struct { CALLS(LIBRARY_POINTER) } table;
 *     static const char *const names[] = { CALLS(LIBRARY_NAME) };
 *     CALLS(LIBRARY_CALL)
 */
#ifndef PIPER_BASE_LIBRARY_H
#define PIPER_BASE_LIBRARY_H

#include "base/status.h"

#define LIBRARY_POINTER(type, name, parameters, arguments) type(*name) parameters;
#define LIBRARY_NAME(type, name, parameters, arguments)    #name,
/* hidden: the library itself is to call its own */
#define LIBRARY_CALL(type, name, parameters, arguments)        \
    __attribute__((visibility("hidden"))) type name parameters \
    {                                                          \
        return table.name arguments;                           \
    }

struct library {
    const char *name, *file;  /* "NCCL", "libnccl.so.2" */
    const char *folder;       /* where it was when this program was built: after LD_LIBRARY_PATH and the system's */
    const char *wheel;        /* its folder inside site-packages, for the sentence */
    const char *oldest;       /* version that has all functions */
    const char *instead;      /* what does without it: a sentence's end */
    const char *const *names; /* of its functions */
    unsigned n;
};

/* Fills functions[n] in the order of the names, all or none; ST_DEVICE with what was looked for, where, and what to do. The library
 * stays loaded. */
enum status library_load(const struct library *l, void *functions, struct err *e);

#endif
