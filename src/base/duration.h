/* Spans of time as people and batch systems write them. */
#ifndef PIPER_DURATION_H
#define PIPER_DURATION_H

#include <stdbool.h>
#include <stdint.h>

/* "H:M:S", "M:S" or seconds; after days hours come first, as in Slurm: "D-H", "D-H:M", "D-H:M:S"; or with units, "1h30m". The whole
 * text; false when it is none. */
bool duration_read(const char *text, uint64_t *seconds);

enum { DURATION_BYTES = 32 };
/* "2:05", "1:02:05"; returns text. Less than nothing is written as nothing. */
const char *duration_write(double seconds, char text[DURATION_BYTES]);
/* Of a step or less, four digits: "1.25 s", "3.2 ms", "17 us"; returns text. */
const char *duration_digits(double seconds, char text[DURATION_BYTES]);

#endif
