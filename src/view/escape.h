/* Text of others in HTML and SVG. */
#ifndef PIPER_VIEW_ESCAPE_H
#define PIPER_VIEW_ESCAPE_H

#include <stdio.h>

/* For text between tags and in attributes; control characters are left out. */
void escape_text(FILE *to, const char *text);

#endif
