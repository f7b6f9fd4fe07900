/* Fields of a Protocol Buffers message, one after the other (the encoding: protobuf.dev, "Encoding"). Nothing is copied, nothing
 * is nested: a field that is a message is its bytes, to be read the same way. */
#ifndef PIPER_TEXT_PROTOBUF_H
#define PIPER_TEXT_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct protobuf {
    const unsigned char *at, *end;
};
struct protobuf_field {
    uint32_t number;
    bool is_bytes;        /* else it is a number */
    uint64_t value;       /* a number of any kind: varint, or 4 or 8 bytes, little-endian */
    struct protobuf body; /* bytes, a string, a message */
};
enum protobuf_next { PROTOBUF_END, PROTOBUF_FIELD, PROTOBUF_BROKEN };

enum protobuf_next protobuf_next(struct protobuf *p, struct protobuf_field *f);
static inline size_t protobuf_length(const struct protobuf *p)
{
    return (size_t)(p->end - p->at);
}
/* The number as what its field is declared. */
float protobuf_float(const struct protobuf_field *f);
int32_t protobuf_int(const struct protobuf_field *f);

#endif
