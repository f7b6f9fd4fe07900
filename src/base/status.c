#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum status err_set(struct err *e, enum status status, const char *where, const char *fmt, ...)
{
    if (!e || e->status != ST_OK)
        return status;
    e->status = status;
    size_t n = 0;
    if (where)
        n = (size_t)snprintf(e->text, sizeof e->text, "%s: ", where);
    if (n < sizeof e->text) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(e->text + n, sizeof e->text - n, fmt, ap);
        va_end(ap);
    }
    text_printable(e->text);
    return status;
}

void text_printable(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
        else if (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
            c[0] = c[1] = '?';
}

void text_print(FILE *to, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    char *text = mem_alloc((size_t)n + 1);
    va_start(ap, format);
    vsnprintf(text, (size_t)n + 1, format, ap);
    va_end(ap);
    const bool line = n && format[strlen(format) - 1] == '\n';
    if (line)
        text[n - 1] = '\0';
    text_printable(text);
    fputs(text, to);
    if (line)
        fputc('\n', to);
    mem_free(text);
}

void err_clear(struct err *e)
{
    e->status = ST_OK;
    e->text[0] = '\0';
}

const char *status_name(enum status status)
{
    switch (status) {
    case ST_OK:
        return "done";
    case ST_USAGE:
        return "usage";
    case ST_INPUT:
        return "bad input";
    case ST_MISSING:
        return "input missing";
    case ST_BUG:
        return "internal error";
    case ST_DEVICE:
        return "device or memory missing";
    case ST_IO:
        return "input/output";
    case ST_STOPPED:
        return "stopped";
    case ST_HANG:
        return "hang or lost peer";
    }
    return "unknown";
}
