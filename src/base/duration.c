#include "base/duration.h"

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

/* Up to `most` numbers that colons part; those after the first are below 60. *parts: how many there were. */
static bool read_parts(const char *s, int most, uint64_t x[3], int *parts)
{
    for (*parts = 0; *parts < most; s++) {
        if (!read_part(&s, ":", &x[*parts]) || (*parts && x[*parts] > 59))
            return false;
        ++*parts;
        if (!*s)
            return true;
    }
    return false;
}

/* "1d2h30m5s": each unit once, the largest first. */
static bool read_units(const char *s, uint64_t *seconds)
{
    static const char units[] = "dhms";
    static const uint64_t worth[] = { 86400, 3600, 60, 1 };
    const char *left = units;
    *seconds = 0;
    while (*s) {
        uint64_t x;
        const char *unit;
        if (!read_part(&s, units, &x) || !*s || !(unit = strchr(left, *s)))
            return false;
        *seconds += x * worth[unit - units];
        left = unit + 1;
        s++;
    }
    return left != units;
}

bool duration_read(const char *text, uint64_t *seconds)
{
    if (read_units(text, seconds))
        return true;
    uint64_t days, x[3] = { 0 };
    const char *s = text;
    int parts;
    if (strchr(text, '-')) {
        if (!read_part(&s, "-", &days) || days > 10000 || !read_parts(s + 1, 3, x, &parts) || x[0] > 23)
            return false;
        *seconds = 86400 * days + 3600 * x[0] + 60 * x[1] + x[2];
        return true;
    }
    if (!read_parts(text, 3, x, &parts))
        return false;
    *seconds = parts == 1 ? x[0] : parts == 2 ? 60 * x[0] + x[1] : 3600 * x[0] + 60 * x[1] + x[2];
    return true;
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

const char *duration_digits(double seconds, char text[DURATION_BYTES])
{
    const double size = seconds < 0 ? -seconds : seconds;
    const bool whole = size >= 1, milli = !whole && size >= 1e-3;
    snprintf(text, DURATION_BYTES, "%.4g %s", whole ? seconds : seconds * (milli ? 1e3 : 1e6),
             whole   ? "s"
             : milli ? "ms"
                     : "us");
    return text;
}
