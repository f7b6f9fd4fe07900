/* Files as streams of bytes: plain, .gz and .zst (by their first bytes, not their names), and standard input ("-"). */
#ifndef PIPER_TEXT_SOURCE_H
#define PIPER_TEXT_SOURCE_H

#include "base/status.h"
#include "text/unicode.h"

struct source_codec; /* gz, zst; NULL: plain */
struct source {
    char *path; /* for messages; owned */
    int fd;
    char *raw; /* bytes of the file, not yet unpacked */
    size_t at, n;
    bool at_end; /* of the file */
    bool whole;  /* no packed member is begun and not ended */
    struct source_codec *codec;
    uint64_t taken; /* bytes of the file */
    uint64_t bytes; /* of the file; 0: it is not known */
};

/* ST_MISSING; ST_INPUT for what is no text: parquet, HDF5, NumPy, zip, a packed file that this build cannot unpack. On success
 * it ends with source_close(). */
enum status source_open(const char *path, struct source *s, struct err *e);
/* Up to n > 0 bytes; *got 0: the end. ST_IO; ST_INPUT: the packed file is damaged, or cut off. */
enum status source_read(struct source *s, void *to, size_t n, size_t *got, struct err *e);
void source_close(struct source *s); /* safe on a zeroed one */

/* source_codec.c */
struct source_codec *source__gzip(void); /* NULL: this build has none */
struct source_codec *source__zstd(void);
void source__codec_free(struct source_codec *c);
/* Unpacks from in to out; both are moved. *whole: a member ended. False: damaged. */
struct source_piece {
    char *at;
    size_t n;
};
bool source__unpack(struct source_codec *c, struct source_piece *in, struct source_piece *out, bool *whole);

#endif
