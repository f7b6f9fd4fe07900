/* Checksums of HDF5 metadata: superblock version 2 and 3, object headers version 2 (HDF5 File Format Specification 3.0, II.A
 * and IV.A.1.b). The others (continuations, heaps) stay as they are. */
#include <string.h>

#include "tests/fuzz/fuzz.h"

static uint32_t rotate(uint32_t x, int k)
{
    return x << k | x >> (32 - k);
}

/* hashlittle() of lookup3 (Jenkins 2006), the checksum of the specification, with initial value 0. */
static uint32_t checksum(const unsigned char *k, size_t n)
{
    uint32_t a = 0xdeadbeef + (uint32_t)n, b = a, c = a;
    for (; n > 12; n -= 12, k += 12) {
        uint32_t w[3];
        memcpy(w, k, sizeof w);
        a += w[0];
        b += w[1];
        c += w[2];
        a = (a - c) ^ rotate(c, 4), c += b;
        b = (b - a) ^ rotate(a, 6), a += c;
        c = (c - b) ^ rotate(b, 8), b += a;
        a = (a - c) ^ rotate(c, 16), c += b;
        b = (b - a) ^ rotate(a, 19), a += c;
        c = (c - b) ^ rotate(b, 4), b += a;
    }
    if (n == 0)
        return c;
    uint32_t w[3] = { 0 };
    memcpy(w, k, n);
    a += w[0];
    b += w[1];
    c += w[2];
    c = (c ^ b) - rotate(b, 14);
    a = (a ^ c) - rotate(c, 11);
    b = (b ^ a) - rotate(a, 25);
    c = (c ^ b) - rotate(b, 16);
    a = (a ^ c) - rotate(c, 4);
    b = (b ^ a) - rotate(a, 14);
    return (c ^ b) - rotate(b, 24);
}

static void sign(struct fuzz_input *in, size_t from, size_t n)
{
    if (from + n + 4 > in->n)
        return;
    const uint32_t sum = checksum(in->at + from, n);
    memcpy(in->at + from + n, &sum, sizeof sum);
}

/* Bytes of an object header before its checksum. */
static size_t header_bytes(const struct fuzz_input *in, size_t at)
{
    const unsigned flags = in->at[at + 5];
    size_t n = 6 + (flags & 0x20 ? 16 : 0) + (flags & 0x10 ? 4 : 0), width = (size_t)1 << (flags & 3);
    if (at + n + width > in->n)
        return in->n;
    uint64_t chunk = 0;
    memcpy(&chunk, in->at + at + n, width);
    return chunk > in->n ? in->n : n + width + chunk;
}

void fuzz_repair_hdf5(struct fuzz_input *in)
{
    if (in->n > 48 && memcmp(in->at + 1, "HDF", 3) == 0)
        sign(in, 0, 44);
    for (size_t i = 0; i + 6 < in->n; i++)
        if (memcmp(in->at + i, "OHDR", 4) == 0)
            sign(in, i, header_bytes(in, i));
}
