/* SHA-256 (FIPS 180-4). For digests of job and model, where two that differ must never look equal. */
#ifndef PIPER_IO_SHA256_H
#define PIPER_IO_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX = 65 };

struct sha256 {
    uint32_t h[8];
    uint64_t bytes; /* hashed so far */
    uint8_t block[64];
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t bytes);
void sha256_end(struct sha256 *s, uint8_t digest[SHA256_BYTES]);
void sha256_hex(const uint8_t digest[SHA256_BYTES], char hex[SHA256_HEX]); /* lower case, NUL-terminated */

bool sha256_unhex(const char *hex, uint8_t digest[SHA256_BYTES]); /* false: not 64 digits of lower case */

/* A text with its terminating NUL, and a number as 8 bytes, little-endian: so no two sequences of adds look the same.
 */
void sha256_add_text(struct sha256 *s, const char *text);
void sha256_add_u64(struct sha256 *s, uint64_t x);
void sha256_add_f64(struct sha256 *s, double x);

#endif
