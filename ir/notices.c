#include "ir/notices.h"

#include <stdarg.h>
#include <stdio.h>

void notices_init(struct notices *n)
{
    *n = (struct notices){ 0 };
    arena_init(&n->arena);
}

void notices_release(struct notices *n)
{
    vec_free(n);
    arena_release(&n->arena);
}

void notices_add(struct notices *n, const char *where, const char *fmt, ...)
{
    if (!n)
        return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *notice = arena_printf(&n->arena, "%s: %s", where, text);
    text_printable(notice);
    vec_add(n, notice);
}
