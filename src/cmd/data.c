/* piper data: token files from text, and from token shards that other tools write. */
#include <stdio.h>

#include "base/json.h"
#include "cmd/command.h"
#include "io/file.h"
#include "io/tokens.h"
#include "cmd/options.h"

/* What was made, for the person who made it. */
static enum status show(const char *path, struct err *e)
{
    struct tokens t = { 0 };
    TRY(tokens_open(path, 1, UINT32_MAX, &t, e));
    printf("%s: %llu tokens, vocabulary %u\n", path, (unsigned long long)t.n_tokens, t.file_vocab);
    tokens_close(&t);
    return ST_OK;
}

static enum status run(const struct option_list *operands, const char *out, uint64_t vocab, struct err *e)
{
    static const char *const verbs[] = { "text", "import", NULL };
    const char *verb = operands->at[0];
    bool import = strcmp(verb, verbs[1]) == 0;
    if (!import && strcmp(verb, verbs[0]) != 0) {
        const char *near = nearest_word(verb, verbs);
        return err_set(e, ST_USAGE, "data", "found \"%s\", expected text or import%s%s%s", verb,
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    if (operands->n < 2)
        return err_set(e, ST_USAGE, "data", "%s needs at least one input file", verb);
    if (!out)
        return err_set(e, ST_USAGE, "data", "missing required option -o FILE, the token file to write");
    if (vocab > UINT32_MAX || (vocab && !import))
        return err_set(e, ST_USAGE, "data", "--vocab requires import and must be below 2^32");
    for (uint32_t i = 1; i < operands->n; i++)
        TRY(file_differs(out, operands->at[i], e));
    if (import)
        TRY(tokens_import(operands->at + 1, operands->n - 1, (uint32_t)vocab, out, e));
    else
        TRY(tokens_from_text(operands->at + 1, operands->n - 1, out, e));
    return show(out, e);
}

struct data_options {
    struct option_common common;
    const char *out;
    uint64_t vocab;
};
#define AT(member) offsetof(struct data_options, member)
static const struct option options[] = {
    TEXT("output", 'o', AT(out), "FILE", "token file to write"),
    NUMBER("vocab", 0, AT(vocab), "N", 1,
           "import: vocabulary size, above every token id (default: the largest id + 1)"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "data",
    .synopsis = "text FILE... -o tokens.h5 | import SHARD... -o tokens.h5 [--vocab N]",
    .about = "text:   one token per byte, vocabulary 256\nimport: concatenates token shards in llm.c's format (.bin), "
             "or piper token files",
    .options = options,
    .min_operands = 1,
    .max_operands = UINT32_MAX,
};

static enum status data_run(int argc, char **argv, struct err *e)
{
    struct data_options o = { 0 };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help)
        st = run(&o.common.operands, o.out, o.vocab, e);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_data = { "data", "make token files from text or from token shards", data_run };
