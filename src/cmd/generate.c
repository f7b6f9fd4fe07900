/* piper generate: a model goes on with a text. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "cmd/asked.h"
#include "cmd/command.h"
#include "speak/sample.h"
#include "speak/speaker.h"
#include "speak/text.h"
#include "speak/tokens.h"
#include "text/chat.h"

enum { TOKENS = 200 /* where nothing is said */, PROMPT_MOST = 1 << 28 /* bytes */, ROOM_MOST = 1 << 24 /* tokens */ };

struct generate_options {
    struct option_common common;
    const char *prompt, *file, *job, *tokenizer, *pattern, *system, *template, *dtype, *temperature, *top_p;
    uint64_t max_tokens, top_k, seed, threads;
    bool ids, chat, no_end, time;
};

struct generation {
    const struct generate_options *o;
    struct sample_how how;
    struct asked from;
    struct tokenizer *t; /* NULL: bytes, or ids */
    struct speak_model m;
    struct speaker *speaker;
    struct token_ids ids, ends; /* the prompt and what follows it; tokens at which it ends */
    uint32_t n_prompt, room;
    struct speak_text text;
    double started, prompt_done, fastest; /* seconds; of a token, fastest */
};

/* ---- the command line --------------------------------------------------------------------------------------------- */

static enum status read_number(const char *option, const char *text, double most, double *x, struct err *e)
{
    char *end;
    if (!text)
        return ST_OK;
    *x = strtod(text, &end);
    if (end == text || *end || !(*x >= 0 && *x <= most))
        return err_set(e, ST_USAGE, option, "found \"%s\", expected a number from 0 to %g", text, most);
    return ST_OK;
}

/* Without a word about chance the most likely token follows. */
static enum status understand(struct generation *g, struct err *e)
{
    const struct generate_options *o = g->o;
    const bool drawn = o->top_k || o->top_p || o->seed != UINT64_MAX;
    g->how = (struct sample_how){
        .temperature = drawn ? 1 : 0, .top_k = o->top_k, .top_p = 1, .seed = o->seed == UINT64_MAX ? 1 : o->seed
    };
    TRY(read_number("--temperature", o->temperature, 1000, &g->how.temperature, e));
    TRY(read_number("--top-p", o->top_p, 1, &g->how.top_p, e));
    if (o->prompt && o->file)
        return err_set(e, ST_USAGE, "generate", "--prompt and --file are mutually exclusive");
    if (o->ids && o->chat)
        return err_set(e, ST_USAGE, "generate", "--ids and --chat are mutually exclusive");
    if ((o->system || o->template) && !o->chat)
        return err_set(e, ST_USAGE, "generate", "%s requires --chat", o->system ? "--system" : "--template");
    if (!o->prompt && !o->file && isatty(0))
        return err_set(e, ST_USAGE, "generate", "missing a prompt: --prompt TEXT, --file FILE, or standard input");
    return ST_OK;
}

/* ---- the prompt --------------------------------------------------------------------------------------------------- */

static enum status read_stream(FILE *f, const char *name, struct text_bytes *to, struct err *e)
{
    size_t n;
    while ((n = fread(text_bytes_room(to, 1 << 16), 1, 1 << 16, f)) > 0 && to->n < PROMPT_MOST)
        to->n += n;
    if (ferror(f))
        return err_set(e, ST_IO, name, "cannot be read");
    return to->n < PROMPT_MOST ? ST_OK
                               : err_set(e, ST_INPUT, name, "the prompt has more than %d MiB", PROMPT_MOST >> 20);
}

static enum status read_prompt(const struct generate_options *o, struct text_bytes *to, struct err *e)
{
    if (o->prompt) {
        text_bytes_add(to, o->prompt, strlen(o->prompt));
        return ST_OK;
    }
    if (!o->file || strcmp(o->file, "-") == 0)
        return read_stream(stdin, "standard input", to, e);
    FILE *f = fopen(o->file, "rb");
    if (!f)
        return err_set(e, ST_MISSING, o->file, "cannot be read: no such file, or no permission");
    const enum status st = read_stream(f, o->file, to, e);
    fclose(f);
    return st;
}

/* "5 17,3": numbers apart by spaces, line ends or commas. */
static enum status read_ids(struct text_bytes *text, struct token_ids *to, struct err *e)
{
    static const char apart[] = " \t\r\n,";
    char *rest = NULL;
    text_bytes_add(text, "", 1);
    for (char *word = strtok_r(text->at, apart, &rest); word; word = strtok_r(NULL, apart, &rest)) {
        uint64_t id;
        if (!parse_number(word, &id) || id >= VOCABULARY_NONE)
            return err_set(e, ST_INPUT, "prompt", "found \"%.40s\", expected token ids, as in 5 17 3", word);
        vec_add(to, (uint32_t)id);
    }
    return ST_OK;
}

static enum status encode_chat(struct generation *g, const struct text_bytes *text, struct err *e)
{
    struct chat_template c = { 0 };
    struct text_bytes user = { 0 };
    if (!g->t)
        return err_set(e, ST_USAGE, "--chat", "requires a tokenizer: templates are made of its special tokens");
    TRY(chat_template_find(g->o->template, g->t, &c, e));
    struct encoder *x = encoder_new(g->t);
    utf8_repair(text->at, text->n, &user);
    text_bytes_add(&user, "", 1);
    const enum status st = chat_prompt(&c, x, g->t, g->o->system, user.at, &g->ids, e);
    vec_add(&g->ends, chat_template_end(&c, g->t));
    encoder_free(x);
    text_bytes_free(&user);
    chat_template_free(&c);
    return st;
}

static enum status encode(struct generation *g, struct err *e)
{
    struct text_bytes text = { 0 };
    enum status st = read_prompt(g->o, &text, e);
    if (st == ST_OK)
        st = g->o->ids    ? read_ids(&text, &g->ids, e)
             : g->o->chat ? encode_chat(g, &text, e)
                          : speak_encode(g->t, text.at, text.n, &g->ids, e);
    text_bytes_free(&text);
    g->n_prompt = g->ids.n;
    return st == ST_OK && g->ids.n == 0 ? err_set(e, ST_INPUT, "prompt", "is empty, expected at least one token") : st;
}

/* ---- the model ---------------------------------------------------------------------------------------------------- */

static enum status check_ids(const struct generation *g, struct err *e)
{
    const uint32_t vocab = g->m.graph.vocab;
    if (!g->o->ids && !g->t && vocab != 256)
        return err_set(e, ST_USAGE, g->from.from,
                       "does not say which tokenizer its model has (vocabulary %u): --tokenizer DIR, or --job JOB "
                       "whose data have one, or token ids with --ids",
                       vocab);
    for (uint32_t i = 0; i < g->ids.n; i++)
        if (g->ids.at[i] >= vocab)
            return err_set(e, ST_INPUT, "prompt", "token %u is %u, expected ids below %u, the vocabulary of the model",
                           i, g->ids.at[i], vocab);
    return ST_OK;
}

static enum status open_model(struct generation *g, struct err *e)
{
    const struct speak_want want = { SPEAK_GENERATE, asked_dtype(g->o->dtype) };
    const uint64_t room = g->ids.n + (g->o->max_tokens ? g->o->max_tokens : TOKENS);
    if (room > ROOM_MOST)
        return err_set(e, ST_USAGE, "--max-tokens", "with the prompt %" PRIu64 " tokens, expected at most %d", room,
                       ROOM_MOST);
    g->room = (uint32_t)room;
    TRY(asked_load(&g->from, g->room, &want, &g->m, e));
    TRY(check_ids(g, e));
    const uint32_t table = speak_positions(&g->m.graph);
    if (!g->o->max_tokens && g->room > table && table > g->ids.n)
        g->room = table;
    return speaker_open(&g->m, g->room, &g->speaker, e);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------- */

static void show(struct generation *g, uint32_t id)
{
    if (!g->o->ids) {
        speak_text_add(&g->text, id);
        return;
    }
    printf("%s%u", g->ids.n > g->n_prompt + 1 ? " " : "", id);
    fflush(stdout);
}

static enum status say(struct generation *g, struct err *e)
{
    const float *logits = speaker_add(g->speaker, g->ids.at, g->n_prompt);
    g->prompt_done = clock_now();
    g->fastest = INFINITY;
    while (g->ids.n < g->room) {
        const uint32_t n = g->ids.n - g->n_prompt, id = sample_token(&g->how, logits, g->m.graph.vocab, n);
        if (id == SAMPLE_NONE)
            return err_set(e, ST_INPUT, g->from.from,
                           "the logits of token %u are not finite numbers: the parameters of this model are damaged, "
                           "or its training diverged",
                           g->ids.n);
        vec_add(&g->ids, id);
        if (!g->o->no_end && speak_is_end(&g->ends, id)) {
            if (g->o->ids)
                show(g, id);
            break;
        }
        show(g, id);
        if (ferror(stdout) || g->ids.n == g->room)
            break;
        const double begin = clock_now();
        logits = speaker_add(g->speaker, &id, 1);
        g->fastest = fmin(g->fastest, clock_now() - begin);
    }
    return ST_OK;
}

static void end_line(struct generation *g)
{
    const bool open = g->o->ids || g->text.text.n == 0 || g->text.text.at[g->text.text.n - 1] != '\n';
    if (!g->o->ids)
        speak_text_end(&g->text);
    if (open)
        putchar('\n');
}

static void print_time(const struct generation *g)
{
    const double prompt = g->prompt_done - g->started, rest = clock_now() - g->prompt_done;
    const uint32_t n = g->ids.n - g->n_prompt - 1; /* the first came with the prompt */
    fflush(stdout);
    fprintf(stderr, "prompt: %u tokens in %.3f s", g->n_prompt, prompt);
    if (n > 0)
        fprintf(stderr,
                "; then %u tokens in %.3f s: %.2f ms per token (fastest %.2f), %.1f tokens/s, parameters of %.1f MB "
                "read at %.2f GB/s",
                n, rest, 1e3 * rest / n, 1e3 * g->fastest, n / rest, (double)g->m.bytes / 1e6,
                (double)g->m.bytes * n / rest / 1e9);
    fprintf(stderr, "\n");
}

static enum status generate(struct generation *g, struct err *e)
{
    const struct generate_options *o = g->o;
    TRY(understand(g, e));
    TRY(asked_threads(o->threads, e));
    TRY(asked_open(o->common.operands.at[0], o->job, &g->from, e));
    if (!o->ids)
        TRY(asked_tokenizer(&g->from, o->tokenizer, o->pattern, &g->t, e));
    TRY(asked_ends(&g->from, g->t, &g->ends, e));
    TRY(encode(g, e));
    TRY(open_model(g, e));
    g->text = (struct speak_text){ .t = g->t, .terminal = isatty(1), .to = stdout };
    if (!o->ids)
        speak_text_begin(&g->text, g->ids.at, g->n_prompt);
    g->started = clock_now();
    const enum status st = say(g, e);
    end_line(g);
    if (st == ST_OK && o->time)
        print_time(g);
    return st;
}

#define AT(member) offsetof(struct generate_options, member)
static const struct option options[] = {
    TEXT("prompt", 'p', AT(prompt), "TEXT", "the text to go on with (default: --file, else standard input)"),
    TEXT("file", 'f', AT(file), "FILE", "read the prompt from FILE; -: standard input"),
    FLAG("ids", 0, AT(ids), "prompt and output are token ids"),
    NUMBER("max-tokens", 'n', AT(max_tokens), "N", 1, "stop after N new tokens (default 200)"),
    TEXT("temperature", 0, AT(temperature), "T", "draw from softmax(logits/T); 0 (default): the most likely token"),
    NUMBER("top-k", 0, AT(top_k), "K", 1, "draw from the K most likely tokens"),
    TEXT("top-p", 0, AT(top_p), "P", "draw from the most likely tokens that together have probability P"),
    NUMBER("seed", 0, AT(seed), "N", 0, "of the draws (default 1)"),
    FLAG("ignore-end", 0, AT(no_end), "do not stop at the model's end token"),
    FLAG("chat", 0, AT(chat), "the prompt is what a user says in a conversation; the assistant answers"),
    TEXT("system", 0, AT(system), "TEXT", "with --chat: the system text"),
    TEXT("template", 0, AT(template), "NAME",
         "with --chat: chatml, llama3, gemma, mistral or plain (default: the tokenizer's)"),
    TEXT("tokenizer", 't', AT(tokenizer), "FILE|DIR", "tokenizer to use instead of the model's own"),
    TEXT("pattern", 0, AT(pattern), "P", "of a rank file: gpt2, cl100k, o200k or a regular expression"),
    TEXT("job", 'j', AT(job), "JOB", "job file of the run, whose data name the tokenizer (default: RUNDIR/job.h5)"),
    CHOICE("dtype", 0, AT(dtype), "TYPE", asked_dtypes, "keep matrices as float32 or bfloat16 (default: as stored)"),
    NUMBER("threads", 0, AT(threads), "N", 1, "threads (default: OMP_NUM_THREADS, else all CPUs)"),
    FLAG("time", 0, AT(time), "print tokens per second on standard error"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "generate",
    .synopsis = "RUNDIR|FILE|DIR [--prompt TEXT] [options]",
    .about = "Continues a text with a trained model: the newest checkpoint of a run directory, a checkpoint file, or a "
             "directory that transformers loads.",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

static enum status generate_command(int argc, char **argv, struct err *e)
{
    struct generate_options o = { .seed = UINT64_MAX };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help) {
        struct generation g = { .o = &o };
        st = generate(&g, e);
        speaker_close(g.speaker);
        speak_model_free(&g.m);
        asked_close(&g.from);
        tokenizer_free(g.t);
        vec_free(&g.ids);
        vec_free(&g.ends);
    }
    vec_free(&o.common.operands);
    return st;
}

const struct command command_generate = { "generate", "continue a text with a trained model", generate_command };
