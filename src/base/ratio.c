#include "base/ratio.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

enum { PLACES = 18, DIGITS = 17 }; /* 17 digits tell every double from every other */

struct ratio ratio_of(double x)
{
    CHECK(x >= 0 && x <= 1e9);
    char text[64] = "";
    int digits = 1;
    do
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
    while (strtod(text, NULL) != x && digits++ < DIGITS);
    const int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    struct ratio r = { 0, 1 };
    for (const char *c = text; *c != 'e'; c++) /* the digits, without the point */
        if (*c >= '0' && *c <= '9')
            r.num = r.num * 10 + (uint64_t)(*c - '0');
    for (int places = digits - 1 - exponent; places < 0; places++)
        r.num *= 10;
    int places = digits - 1 - exponent;
    for (; places > PLACES; places--)
        r.num = r.num / 10 + (r.num % 10 > 0); /* upwards: what was positive stays so */
    while (places-- > 0)
        r.den *= 10;
    return r;
}

uint64_t ratio_ceil(struct ratio r, uint64_t n, uint32_t m)
{
    const unsigned __int128 over = (unsigned __int128)r.num * n, under = (unsigned __int128)r.den * m;
    const unsigned __int128 up = over / under + (over % under > 0);
    return up > UINT64_MAX ? UINT64_MAX : (uint64_t)up;
}
