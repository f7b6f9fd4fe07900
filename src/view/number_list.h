/* Numbers as people list them: "0-3,8,10-12". */
#ifndef PIPER_VIEW_NUMBER_LIST_H
#define PIPER_VIEW_NUMBER_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* ST_USAGE, for the option of that name; NULL is a list. */
enum status number_list_check(const char *option, const char *list, struct err *e);
/* Of a list that was checked; NULL: every number is in it. */
bool number_list_has(const char *list, uint64_t x);

#endif
