/* piper data: token files from what people have. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/words.h"
#include "cmd/command.h"
#include "cmd/data.h"
#include "io/file.h"

enum {
    ON_TEXT = 1,
    ON_JSONL = 2,
    ON_IMPORT = 4,
    ON_INFO = 8,
    ON_CHAT = 16,
    MAKES = ON_TEXT | ON_JSONL | ON_IMPORT | ON_CHAT
};

static const struct verb {
    const char *name;
    int is;
    enum status (*run)(const struct data_request *r, struct err *e);
} verbs[] = {
    { "text", ON_TEXT, data_text },       { "jsonl", ON_JSONL, data_text }, { "chat", ON_CHAT, data_chat },
    { "import", ON_IMPORT, data_import }, { "info", ON_INFO, data_info },
};
enum { VERBS = sizeof verbs / sizeof *verbs };

/* ---- signals: what is half made goes before we do ---- */

static const struct dir_new *volatile half_made[2];

void data_half_made(int i, const struct dir_new *file)
{
    half_made[i] = file;
}

/* Whatever thread it finds, whatever the others wait for: all that is called here may be called in a handler. */
static void on_signal(int number)
{
    for (int i = 0; i < 2; i++)
        if (half_made[i] && half_made[i]->temp[0])
            unlinkat(half_made[i]->in.fd, half_made[i]->temp, 0);
    signal(number, SIG_DFL);
    raise(number);
}

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

static void catch_signals(void)
{
    struct sigaction how = { .sa_handler = on_signal }, old;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &how, NULL);
}

/* ---- the command line ---- */

static enum status find_verb(const char *word, const struct verb **verb, struct err *e)
{
    const char *names[VERBS + 1] = { NULL };
    for (int i = 0; i < VERBS; i++) {
        names[i] = verbs[i].name;
        if (strcmp(word, verbs[i].name) == 0) {
            *verb = &verbs[i];
            return ST_OK;
        }
    }
    char hint[WORDS_HINT];
    return err_set(e, ST_USAGE, "data", "found \"%s\", expected text, jsonl, chat, import or info%s", word,
                   words_hint(word, names, hint));
}

/* Options that do not go with the verb. */
static enum status refuse_options(const struct data_request *r, const struct verb *v, struct err *e)
{
    const struct {
        const char *option;
        bool given;
        int goes_with;
    } rows[] = {
        { "--vocab", r->vocab, ON_IMPORT },
        { "--raw", r->raw, ON_IMPORT },
        { "--field", r->field, ON_JSONL | ON_CHAT },
        { "--template", r->template, ON_CHAT },
        { "--pad", r->pad, ON_CHAT },
        { "--tokenizer", r->tokenizer, MAKES },
        { "--pattern", r->pattern, MAKES },
        { "--bos", r->bos, ON_TEXT | ON_JSONL },
        { "--eos", r->eos, ON_TEXT | ON_JSONL },
        { "--split", r->split, MAKES },
        { "-o", r->out, MAKES },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char names[80] = "";
        for (int k = 0; k < VERBS; k++)
            if (rows[i].goes_with & verbs[k].is) {
                strcat(names, *names ? ", " : "");
                strcat(names, verbs[k].name);
            }
        if (rows[i].given && !(rows[i].goes_with & v->is))
            return err_set(e, ST_USAGE, "data", "%s goes with %s, not with %s", rows[i].option, names, v->name);
    }
    if (r->pattern && !r->tokenizer)
        return err_set(e, ST_USAGE, "data", "--pattern needs --tokenizer, a tiktoken rank file");
    return ST_OK;
}

static enum status check_request(struct data_request *r, const struct verb *v, struct err *e)
{
    if (v->is & MAKES && !r->out)
        return err_set(e, ST_USAGE, "data", "missing required option -o FILE, the token file to write");
    if (r->vocab > UINT32_MAX)
        return err_set(e, ST_USAGE, "data", "--vocab is below 2^32");
    TRY(refuse_options(r, v, e));
    r->field = r->field ? r->field : v->is == ON_CHAT ? "messages" : "text";
    r->bos = r->bos ? r->bos : "auto";
    r->eos = r->eos ? r->eos : "auto";
    r->share = 1;
    if (!r->split)
        return ST_OK;
    char *end;
    r->share = strtod(r->split, &end);
    if (*end || !(r->share > 0 && r->share < 1))
        return err_set(e, ST_USAGE, "data", "--split: found \"%s\", expected a share between 0 and 1, as 0.99",
                       r->split);
    return ST_OK;
}

static enum status run(struct data_request *r, struct err *e)
{
    const struct option_list *operands = &r->common.operands;
    const struct verb *v = NULL;
    TRY(find_verb(operands->at[0], &v, e));
    r->verb = v->name;
    if (operands->n < 2)
        return err_set(e, ST_USAGE, "data", "%s needs at least one input file", v->name);
    TRY(check_request(r, v, e));
    TRY(data_expand(operands, v->name, &r->files, e));
    for (uint32_t i = 0; i < r->files.n && r->out; i++)
        TRY(file_differs(r->out, r->files.at[i], e));
    catch_signals();
    return v->run(r, e);
}

#define AT(member) offsetof(struct data_request, member)
static const char *const yes_no[] = { "auto", "yes", "no", NULL };
static const struct option options[] = {
    TEXT("output", 'o', AT(out), "FILE", "token file to write"),
    TEXT("tokenizer", 0, AT(tokenizer), "FILE|DIR",
         "tokenizer.json, sentencepiece .model, the folder of one, or a tiktoken rank file (default: bytes)"),
    TEXT("pattern", 0, AT(pattern), "P", "of a rank file: gpt2, cl100k, o200k or a regular expression"),
    TEXT("field", 0, AT(field), "NAME", "jsonl, chat: the key of the text (default: text, messages)"),
    CHOICE("bos", 0, AT(bos), "auto|yes|no", yes_no, "a token at the begin of each document (default: auto)"),
    CHOICE("eos", 0, AT(eos), "auto|yes|no", yes_no, "an end-of-text token behind each document (default: auto)"),
    TEXT("template", 0, AT(template), "NAME",
         "chat: chatml, llama3, gemma, mistral or plain (default: the tokenizer's)"),
    NUMBER("pad", 0, AT(pad), "N", 1, "chat: fill each conversation up to a multiple of N tokens"),
    TEXT("split", 0, AT(split), "SHARE", "so much of the documents; the others go to FILE-eval.h5"),
    NUMBER("seed", 0, AT(seed), "N", 0, "of --split (default: 1)"),
    TEXT("raw", 0, AT(raw), "TYPE", "import: files without a header, uint16, uint32, ..."),
    NUMBER("vocab", 0, AT(vocab), "N", 1,
           "import: every id must be below N (default: the tokenizer's, or the largest id + 1)"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "data",
    .synopsis = "text|jsonl|chat|import FILE... -o tokens.h5 [options] | info FILE...",
    .about = "text:   a file is a document; .gz and .zst are unpacked, - is standard input\n"
             "jsonl:  a line is a document\n"
             "chat:   a line is a conversation; what an assistant says is learned\n"
             "import: token ids of llm.c, Megatron (.bin with .idx), NumPy, nanoGPT (--raw), or piper's own files\n"
             "info:   what is in token files",
    .options = options,
    .min_operands = 1,
    .max_operands = UINT32_MAX,
};

static enum status data_run(int argc, char **argv, struct err *e)
{
    struct data_request r = { .seed = 1 };
    enum status st = options_parse(&usage, argc, argv, &r, e);
    if (st == ST_OK && !r.common.help)
        st = run(&r, e);
    vec_free(&r.common.operands);
    data_files_free(&r.files);
    return st;
}

const struct command command_data = { "data", "make token files from text, JSONL or token ids, and look into them",
                                      data_run };
