#include "build-config.h"
#include "text/source.h"

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

struct source_codec {
#ifdef HAVE_ZLIB
    z_stream gzip;
#endif
#ifdef HAVE_ZSTD
    ZSTD_DStream *zstd;
#endif
    bool is_gzip;
};

struct source_codec *source__gzip(void)
{
#ifdef HAVE_ZLIB
    struct source_codec *c = mem_alloc(sizeof *c);
    c->is_gzip = true;
    CHECK(inflateInit2(&c->gzip, 16 + MAX_WBITS) == Z_OK);
    return c;
#else
    return NULL;
#endif
}

struct source_codec *source__zstd(void)
{
#ifdef HAVE_ZSTD
    struct source_codec *c = mem_alloc(sizeof *c);
    c->zstd = ZSTD_createDStream();
    CHECK(c->zstd);
    return c;
#else
    return NULL;
#endif
}

void source__codec_free(struct source_codec *c)
{
    if (!c)
        return;
#ifdef HAVE_ZLIB
    if (c->is_gzip)
        inflateEnd(&c->gzip);
#endif
#ifdef HAVE_ZSTD
    ZSTD_freeDStream(c->zstd);
#endif
    mem_free(c);
}

#ifdef HAVE_ZLIB
static bool gunzip(z_stream *z, struct source_piece *in, struct source_piece *out, bool *whole)
{
    z->next_in = (unsigned char *)in->at;
    z->avail_in = (unsigned)in->n;
    z->next_out = (unsigned char *)out->at;
    z->avail_out = (unsigned)out->n;
    const int st = inflate(z, Z_NO_FLUSH);
    *in = (struct source_piece){ (char *)z->next_in, z->avail_in };
    *out = (struct source_piece){ (char *)z->next_out, z->avail_out };
    *whole = st == Z_STREAM_END;
    if (*whole)
        inflateReset(z); /* another member may follow */
    return st == Z_OK || st == Z_STREAM_END || st == Z_BUF_ERROR;
}
#endif

#ifdef HAVE_ZSTD
static bool unzstd(ZSTD_DStream *z, struct source_piece *in, struct source_piece *out, bool *whole)
{
    ZSTD_inBuffer from = { in->at, in->n, 0 };
    ZSTD_outBuffer to = { out->at, out->n, 0 };
    const size_t st = ZSTD_decompressStream(z, &to, &from);
    *in = (struct source_piece){ in->at + from.pos, in->n - from.pos };
    *out = (struct source_piece){ out->at + to.pos, out->n - to.pos };
    *whole = st == 0;
    return !ZSTD_isError(st);
}
#endif

bool source__unpack(struct source_codec *c, struct source_piece *in, struct source_piece *out, bool *whole)
{
#ifdef HAVE_ZLIB
    if (c->is_gzip)
        return gunzip(&c->gzip, in, out, whole);
#endif
#ifdef HAVE_ZSTD
    if (c->zstd)
        return unzstd(c->zstd, in, out, whole);
#endif
    (void)in, (void)out, (void)whole;
    return false;
}
