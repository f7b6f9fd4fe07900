#include "duration.h"

#include <stdio.h>
#include <string.h>

#include "base/parse.h"

/* The number before one of the ends; *s is then at that end. */
static bool read_part(const char **s, const char *ends, uint64_t *x)
{
    char number[16];
    size_t n = strcspn(*s, ends);
    if (n >= sizeof number)
        return false;
    memcpy(number, *s, n);
    number[n] = '\0';
    *s += n;
    return parse_number(number, x) && *x <= 1000000000;
}

bool duration_read(const char *text, uint64_t *seconds)
{
    uint64_t days = 0, sum = 0, x;
    const char *s = text;
    if (strchr(s, '-')) {
        if (!read_part(&s, "-", &days) || days > 10000 || !strchr(++s, ':'))
            return false;
    }
    for (int parts = 0; parts < 3; parts++) {
        if (!read_part(&s, ":", &x) || (parts && x > 59))
            return false;
        sum = 60 * sum + x;
        if (!*s) {
            *seconds = 86400 * days + sum;
            return true;
        }
        s++;
    }
    return false;
}

const char *duration_write(double seconds, char text[DURATION_BYTES])
{
    unsigned long long s = seconds > 0 ? (unsigned long long)(seconds + 0.5) : 0;
    if (s >= 3600)
        snprintf(text, DURATION_BYTES, "%llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(text, DURATION_BYTES, "%llu:%02llu", s / 60, s % 60);
    return text;
}
