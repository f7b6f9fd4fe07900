/* The tests of attention in tiles, on `machine`: for tests/cuda/test_parts.c. */
#ifndef PIPER_TESTS_PARTS_ATTENTION_H
#define PIPER_TESTS_PARTS_ATTENTION_H

struct TCase;
void add_attention_parts(struct TCase *t);

#endif
