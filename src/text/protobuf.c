#include "text/protobuf.h"

#include <string.h>

enum wire { WIRE_VARINT, WIRE_8_BYTES, WIRE_BYTES, WIRE_GROUP, WIRE_GROUP_END, WIRE_4_BYTES };

static bool varint(struct protobuf *p, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        const unsigned char byte = *p->at++;
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static bool fixed(struct protobuf *p, unsigned bytes, uint64_t *value)
{
    if (protobuf_length(p) < bytes)
        return false;
    *value = 0;
    for (unsigned i = 0; i < bytes; i++)
        *value |= (uint64_t)p->at[i] << 8 * i;
    p->at += bytes;
    return true;
}

enum protobuf_next protobuf_next(struct protobuf *p, struct protobuf_field *f)
{
    uint64_t tag;
    bool good = false;
    if (p->at == p->end)
        return PROTOBUF_END;
    if (!varint(p, &tag) || tag >> 3 == 0 || tag >> 3 > UINT32_MAX)
        return PROTOBUF_BROKEN;
    *f = (struct protobuf_field){ .number = (uint32_t)(tag >> 3) };
    switch ((enum wire)(tag & 7)) {
    case WIRE_VARINT:
        good = varint(p, &f->value);
        break;
    case WIRE_8_BYTES:
        good = fixed(p, 8, &f->value);
        break;
    case WIRE_4_BYTES:
        good = fixed(p, 4, &f->value);
        break;
    case WIRE_BYTES:
        f->is_bytes = true;
        good = varint(p, &f->value) && f->value <= protobuf_length(p);
        if (good) {
            f->body = (struct protobuf){ p->at, p->at + f->value };
            p->at += f->value;
        }
        break;
    case WIRE_GROUP:
    case WIRE_GROUP_END:
        break; /* nobody writes them any more */
    }
    return good ? PROTOBUF_FIELD : PROTOBUF_BROKEN;
}

float protobuf_float(const struct protobuf_field *f)
{
    const uint32_t bits = (uint32_t)f->value;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

int32_t protobuf_int(const struct protobuf_field *f)
{
    return (int32_t)(uint32_t)f->value;
}
