#include "base/parse.h"

#include <stdlib.h>
#include <string.h>

bool parse_number(const char *text, uint64_t *x)
{
    uint64_t sum = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = 10 * sum + digit;
    }
    *x = sum;
    return true;
}

/* The number of digits at *at, which moves behind them. */
static bool take_number(const char **at, uint64_t *x)
{
    char digits[24]; /* holds 2^64 */
    size_t n = strspn(*at, "0123456789");
    if (n >= sizeof digits)
        return false;
    memcpy(digits, *at, n);
    digits[n] = '\0';
    *at += n;
    return parse_number(digits, x);
}

bool parse_range(const char *text, struct parse_range *r)
{
    struct parse_range found = { .step = 1 };
    bool good = take_number(&text, &found.lo);
    found.hi = found.lo;
    if (good && *text == '-')
        good = take_number((text++, &text), &found.hi);
    if (good && *text == ':')
        good = take_number((text++, &text), &found.step);
    if (!good || *text || found.hi < found.lo || !found.step)
        return false;
    *r = found;
    return true;
}

enum status parse_environment(const char *name, uint64_t least, uint64_t most, uint64_t *x, struct err *e)
{
    const char *text = getenv(name);
    char first[24]; /* holds 2^64 */
    uint64_t number;
    if (!text || !*text)
        return ST_OK;
    size_t n = strcspn(text, ",");
    if (n < sizeof first) {
        memcpy(first, text, n);
        first[n] = '\0';
        if (parse_number(first, &number) && number >= least && number <= most) {
            *x = number;
            return ST_OK;
        }
    }
    return err_set(
        e, ST_USAGE, NULL,
        "environment variable %s: found \"%.64s\", expected an integer from %llu to %llu; correct or unset it", name,
        text, (unsigned long long)least, (unsigned long long)most);
}

enum status parse_omp_threads(uint64_t *x, struct err *e)
{
    return parse_environment("OMP_NUM_THREADS", 1, 1024, x, e);
}
