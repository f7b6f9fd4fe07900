/* Reading JSON with answers a person can act on: every value knows its file and its path.
 *
 * A cursor names one value. Reading from it checks kind and range; what is wrong is answered with file, JSON path,
 * what was found and what was expected. js_end() answers keys that nobody asked for: an unknown key is a mistake. */
#ifndef PIPER_BASE_JSON_H
#define PIPER_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"

struct js {
    json_t *v;        /* borrowed from the document; NULL where an optional value is absent */
    const char *file; /* borrowed: name of the file, for messages */
    char path[160];   /* "$.optimizer.betas[0]" */
};

/* Parses a file ("-" is standard input), or text that came from `file`. *doc is owned by the caller: json_decref(). */
enum status js_load_file(const char *file, json_t **doc, struct err *e);
enum status js_load_text(const char *text, const char *file, json_t **doc, struct err *e);
struct js js_root(json_t *doc, const char *file);

bool js_has(const struct js *o, const char *key);
/* Member of an object: js_need fails when it is absent (or o is no object); js_opt gives v == NULL, also for null. */
enum status js_need(const struct js *o, const char *key, struct js *out, struct err *e);
enum status js_opt(const struct js *o, const char *key, struct js *out, struct err *e);
/* Element i of an array; js_count gives its length and fails when it is none. */
enum status js_count(const struct js *a, uint32_t *n, struct err *e);
struct js js_at(const struct js *a, uint32_t i);

/* Scalars, range inclusive. The _or forms give the default when the key is absent (or null). */
enum status js_int(const struct js *v, int64_t lo, int64_t hi, int64_t *out, struct err *e);
enum status js_num(const struct js *v, double lo, double hi, double *out, struct err *e);
enum status js_bool(const struct js *v, bool *out, struct err *e);
enum status js_str(const struct js *v, const char **out, struct err *e); /* borrowed from the document */
enum status js_int_or(const struct js *o, const char *key, int64_t lo, int64_t hi, int64_t dflt, int64_t *out,
                      struct err *e);
enum status js_num_or(const struct js *o, const char *key, double lo, double hi, double dflt, double *out,
                      struct err *e);
enum status js_bool_or(const struct js *o, const char *key, bool dflt, bool *out, struct err *e);
enum status js_str_or(const struct js *o, const char *key, const char *dflt, const char **out, struct err *e);

/* A string that is one of the words of the NULL-terminated list; *which: its index. The answer lists the words, and says which one was
 * meant (base/words.h). js_word_or: dflt, and index included, when the key is absent (or null). */
enum status js_word(const struct js *v, const char *const *words, uint32_t *which, struct err *e);
enum status js_word_or(const struct js *o, const char *key, const char *const *words, uint32_t dflt, uint32_t *which,
                       struct err *e);

/* The object has no key outside the NULL-terminated list; the answer names the nearest known one. */
enum status js_only(const struct js *o, const char *const *keys, struct err *e);

/* err_set with file and path of v, ending in what was found: "train.json: $.lr.peak: found \"x\", expected a number". */
enum status js_expected(const struct js *v, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* err_set with file and path and a free sentence. */
enum status js_wrong(const struct js *v, struct err *e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Text that is read as the same values, numbers in 15 digits where these are enough; the caller's: free(). flags: jansson's. */
char *js_text(const json_t *doc, size_t flags);

#endif
