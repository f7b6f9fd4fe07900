#include "host/cgroup.h"

#include <stdio.h>
#include <string.h>

bool cgroup_lists(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = list; at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (strncmp(at, word, n) == 0 && (at[n] == ',' || at[n] == '\0'))
            return true;
    return false;
}

/* Lines are "NUMBER:CONTROLLERS:PATH", of version 2 "0::PATH". */
bool cgroup_of(const char *root, const char *controller, char path[CGROUP_BYTES])
{
    char name[CGROUP_BYTES], line[2 * CGROUP_BYTES];
    bool found = false;
    snprintf(name, sizeof name, "%s/proc/self/cgroup", root);
    FILE *f = fopen(name, "r");
    while (f && !found && fgets(line, sizeof line, f)) {
        char *controllers = strchr(line, ':'), *at = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!at)
            continue;
        *controllers++ = *at++ = '\0';
        found = controller ? cgroup_lists(controllers, controller) : !*controllers;
        if (found)
            snprintf(path, CGROUP_BYTES, "%.*s", (int)strcspn(at, "\n"), at);
    }
    if (f)
        fclose(f);
    return found;
}
