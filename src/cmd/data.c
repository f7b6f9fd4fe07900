/* piper data: token files from what people have. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cmd/command.h"
#include "cmd/data.h"
#include "io/file.h"

enum { TEXT = 1, JSONL = 2, IMPORT = 4, INFO = 8, CHAT = 16, MAKES = TEXT | JSONL | IMPORT | CHAT };

static const struct verb {
    const char *name;
    int is;
    enum status (*run)(const struct data_request *r, struct err *e);
} verbs[] = {
    { "text", TEXT, data_text },       { "jsonl", JSONL, data_text }, { "chat", CHAT, data_chat },
    { "import", IMPORT, data_import }, { "info", INFO, data_info },
};
enum { VERBS = sizeof verbs / sizeof *verbs };

/* ---- signals: what is half made goes before we do ---- */

static volatile sig_atomic_t caught;

static void catch (int signal)
{
    caught = signal;
}

enum status data_interrupted(struct err *e)
{
    return caught ? err_set(e, ST_STOPPED, "data", "interrupted: nothing was made") : ST_OK;
}

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

static void catch_signals(void)
{
    struct sigaction how = { .sa_handler = catch }, old;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &how, NULL);
}

/* As the signal would have ended us. */
static void leave_by_signal(void)
{
    if (!caught)
        return;
    signal(caught, SIG_DFL);
    raise(caught);
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
    const char *near = nearest_word(word, names);
    return err_set(e, ST_USAGE, "data", "found \"%s\", expected text, jsonl, chat, import or info%s%s%s", word,
                   near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

/* Options that do not go with the verb. */
static enum status refuse_options(const struct data_request *r, const struct verb *v, const char *split, struct err *e)
{
    const struct {
        const char *option;
        bool given;
        int goes_with;
    } rows[] = {
        { "--vocab", r->vocab, IMPORT },     { "--raw", r->raw, IMPORT },       { "--field", r->field, JSONL | CHAT },
        { "--template", r->template, CHAT }, { "--pad", r->pad, CHAT },         { "--tokenizer", r->tokenizer, MAKES },
        { "--pattern", r->pattern, MAKES },  { "--bos", r->bos, TEXT | JSONL }, { "--eos", r->eos, TEXT | JSONL },
        { "--split", split, MAKES },         { "-o", r->out, MAKES },
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

static enum status check_request(struct data_request *r, const struct verb *v, const char *split, struct err *e)
{
    if (v->is & MAKES && !r->out)
        return err_set(e, ST_USAGE, "data", "-o FILE is missing: the token file to make");
    if (r->vocab > UINT32_MAX)
        return err_set(e, ST_USAGE, "data", "--vocab is below 2^32");
    TRY(refuse_options(r, v, split, e));
    r->field = r->field ? r->field : v->is == CHAT ? "messages" : "text";
    r->bos = r->bos ? r->bos : "auto";
    r->eos = r->eos ? r->eos : "auto";
    r->share = 1;
    if (!split)
        return ST_OK;
    char *end;
    r->share = strtod(split, &end);
    if (*end || !(r->share > 0 && r->share < 1))
        return err_set(e, ST_USAGE, "data", "--split: found \"%s\", expected a share between 0 and 1, as 0.99", split);
    return ST_OK;
}

static enum status run(const struct option_list *operands, struct data_request *r, const char *split, struct err *e)
{
    const struct verb *v = NULL;
    TRY(find_verb(operands->at[0], &v, e));
    r->verb = v->name;
    if (operands->n < 2)
        return err_set(e, ST_USAGE, "data", "%s needs at least one input file", v->name);
    TRY(check_request(r, v, split, e));
    TRY(data_expand(operands, v->name, &r->files, e));
    for (uint32_t i = 0; i < r->files.n && r->out; i++)
        TRY(file_differs(r->out, r->files.at[i], e));
    catch_signals();
    return v->run(r, e);
}

static enum status data_run(int argc, char **argv, struct err *e)
{
    static const char *const choices[] = { "auto", "yes", "no", NULL };
    struct data_request r = { .seed = 1 };
    const char *split = NULL;
    const struct option options[] = {
        { .name = "output",
          .letter = 'o',
          .kind = OPTION_TEXT,
          .to = &r.out,
          .value = "FILE",
          .help = "the token file to make" },
        { .name = "tokenizer",
          .kind = OPTION_TEXT,
          .to = &r.tokenizer,
          .value = "FILE|DIR",
          .help = "tokenizer.json, its folder, or a tiktoken rank file (default: bytes are tokens)" },
        { .name = "pattern",
          .kind = OPTION_TEXT,
          .to = &r.pattern,
          .value = "P",
          .help = "of a rank file: gpt2, cl100k, o200k or a regular expression" },
        { .name = "field",
          .kind = OPTION_TEXT,
          .to = &r.field,
          .value = "NAME",
          .help = "jsonl, chat: the key of the text (default: text, messages)" },
        { .name = "bos",
          .kind = OPTION_CHOICE,
          .to = &r.bos,
          .value = "auto|yes|no",
          .words = choices,
          .help = "a token at the begin of each document (default: auto)" },
        { .name = "eos",
          .kind = OPTION_CHOICE,
          .to = &r.eos,
          .value = "auto|yes|no",
          .words = choices,
          .help = "an end-of-text token behind each document (default: auto)" },
        { .name = "template",
          .kind = OPTION_TEXT,
          .to = &r.template,
          .value = "NAME",
          .help = "chat: chatml, llama3, gemma, mistral or plain (default: the tokenizer's)" },
        { .name = "pad",
          .kind = OPTION_NUMBER,
          .to = &r.pad,
          .value = "N",
          .least = 1,
          .help = "chat: fill each conversation up to a multiple of N tokens" },
        { .name = "split",
          .kind = OPTION_TEXT,
          .to = &split,
          .value = "SHARE",
          .help = "so much of the documents; the others go to FILE-eval.h5" },
        { .name = "seed", .kind = OPTION_NUMBER, .to = &r.seed, .value = "N", .help = "of --split (default: 1)" },
        { .name = "raw",
          .kind = OPTION_TEXT,
          .to = &r.raw,
          .value = "TYPE",
          .help = "import: files without a header, uint16, uint32, ..." },
        { .name = "vocab",
          .kind = OPTION_NUMBER,
          .to = &r.vocab,
          .value = "N",
          .least = 1,
          .help = "import: every id must be below N (default: the tokenizer's, or the largest id + 1)" },
        { .name = NULL },
    };
    const struct option_usage usage = {
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
    struct option_list operands = { 0 };
    bool help;
    enum status st = options_parse(&usage, argc, argv, &operands, &help, e);
    if (st == ST_OK && !help)
        st = run(&operands, &r, split, e);
    vec_free(&operands);
    data_files_free(&r.files);
    if (st != ST_OK)
        leave_by_signal();
    return st;
}

const struct command command_data = { "data", "make token files from text, JSONL or token ids, and look into them",
                                      data_run };
