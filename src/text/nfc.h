/* Normalization Form C (Unicode Standard Annex 15). */
#ifndef PIPER_TEXT_NFC_H
#define PIPER_TEXT_NFC_H

#include "text/unicode.h"

/* How many of the first bytes are NFC for certain, whatever follows them: all of nearly every text. */
size_t nfc_done(const char *text, size_t n);
/* Appends the text's normal form. */
void nfc_normalize(const char *text, size_t n, struct text_bytes *out);

#endif
