#include "view/number_list.h"

#include <stdio.h>
#include <string.h>

bool number_list_has(const char *list, uint64_t x)
{
    if (!list)
        return true;
    for (const char *s = list; *s;) {
        unsigned long long first = 0, last;
        int n = 0;
        sscanf(s, "%llu%n", &first, &n);
        s += n;
        last = first;
        if (*s == '-') {
            sscanf(s + 1, "%llu%n", &last, &n);
            s += 1 + n;
        }
        if (x >= first && x <= last)
            return true;
        s += *s == ',';
    }
    return false;
}

enum status number_list_check(const char *option, const char *list, struct err *e)
{
    for (const char *s = list; s;) {
        size_t n = strspn(s, "0123456789"), m = 0;
        const char *after = s + n;
        if (*after == '-') {
            m = strspn(after + 1, "0123456789");
            after += 1 + m;
        }
        if (!n || n > 18 || m > 18 || (s[n] == '-' && !m) || (*after && *after != ',') || (*after == ',' && !after[1]))
            return err_set(e, ST_USAGE, option, "found \"%s\", expected numbers and ranges such as 0-3,8", list);
        s = *after ? after + 1 : NULL;
    }
    return ST_OK;
}
