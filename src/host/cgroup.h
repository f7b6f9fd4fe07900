#ifndef PIPER_CGROUP_H
#define PIPER_CGROUP_H

#include <stdbool.h>

enum { CGROUP_BYTES = 4096 };

/* Is the word in the list, whose words are joined by commas? */
bool cgroup_lists(const char *list, const char *word);
/* The control group of this process that has a controller of version 1, or, with NULL, its group of version 2. False: it is in none.
 * root: in front of /proc, "" but in tests. */
bool cgroup_of(const char *root, const char *controller, char path[CGROUP_BYTES]);

#endif
