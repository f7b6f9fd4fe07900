/* A hash of up to 1 MiB of 32-bit words that can be computed in parts: each word is mixed with its place in the block
 * to 2 x 64 bits, and the hash is the sum. So ranks that hold parts of a block, cut anywhere, add up their shares.
 *
 * What it detects: a change of one word always (mixing is a bijection of place and word); moved, swapped, repeated or
 * zeroed words and any other damage but for one chance in about 2^128. It is no signature: a person who wants to forge
 * a block can. */
#ifndef PIPER_IO_BLOCK_HASH_H
#define PIPER_IO_BLOCK_HASH_H

#include <stdint.h>

enum { BLOCK_HASH_BYTES = 16 };
extern uint32_t block_words; /* 1 << 18: of the format; a test of what happens at borders sets less */

struct block_hash { /* as in files: two little-endian uint64 */
    uint64_t a, b;
};

/* Adds words [first, first + n) of a block; first + n <= block_words. `words` is 4-byte aligned. */
void block_hash_add(struct block_hash *h, const void *words, uint32_t n, uint32_t first);

static inline uint64_t block_count(uint64_t words)
{
    return (words + block_words - 1) / block_words;
}

static inline uint64_t block_bytes(void)
{
    return (uint64_t)4 * block_words;
}

#endif
