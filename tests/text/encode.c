/* encode -m TEMPLATE TOKENIZER: conversations from standard input, one a line, to token ids, targets with a *; TEMPLATE is one of chat.h,
 * - what the tokenizer shows.
 *
 * encode [-p PATTERN] [-s] [-c BYTES] [-d] [-n TEXTS] [-u FORM] [-t SECONDS] TOKENIZER: texts from standard input, each with its length before it (uint32),
 * to tokens on standard output (count, ids: uint32). -s: special tokens are text; -c: texts are cut where encode_cut() allows, near
 * every so many bytes; -d: what comes out is decoded again and given as texts; -n: the first so many; -u: standard input has ranges of
 * code points, "first last" a line, and the texts are all of them in this form (@: the code point, _: a space), alone a text each, else a
 * hundred lines a text; -t: the time for all, repeated until so many
 * seconds are over, on standard error (MB/s of one thread), and no tokens. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "text/chat.h"

static struct err e;
static const struct tokenizer *t;
static int flags;
static size_t cut_bytes;

static void check(enum status st)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "%s\n", e.text);
    exit(-st);
}

static bool read_all(void *to, size_t n)
{
    return fread(to, 1, n, stdin) == n;
}

static void encode(struct encoder *x, const char *text, size_t n, struct token_ids *out)
{
    int more = 0;
    while (cut_bytes && n > cut_bytes) {
        const size_t cut = encode_cut(t, text, cut_bytes);
        if (!cut)
            break;
        check(encoder_encode(x, text, cut, flags | more, out, &e));
        more = ENCODE_CONTINUED;
        text += cut;
        n -= cut;
    }
    check(encoder_encode(x, text, n, flags | more, out, &e));
}

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

struct texts {
    VEC(struct text_bytes);
};

static void measure(struct encoder *x, const struct texts *texts, double seconds)
{
    double best = 1e30, begin = now();
    size_t bytes = 0;
    while (now() - begin < seconds || best == 1e30) {
        const double first = now();
        struct token_ids out = { 0 };
        bytes = 0;
        for (uint32_t i = 0; i < texts->n; i++) {
            out.n = 0;
            encode(x, texts->at[i].at, texts->at[i].n, &out);
            bytes += texts->at[i].n;
        }
        vec_free(&out);
        best = now() - first < best ? now() - first : best;
    }
    fprintf(stderr, "%.2f\n", (double)bytes / best / 1e6);
}

/* The next text of standard input: with its length before it, or made of the ranges of code points there. */
struct input {
    const char *form; /* NULL: texts as they are */
    unsigned next, last;
    bool ended;
};

static bool next_point(struct input *in, unsigned *c)
{
    if (!in->ended && in->next > in->last)
        in->ended = scanf("%x %x", &in->next, &in->last) != 2;
    *c = in->next++;
    return !in->ended;
}

static bool next_form(struct input *in, struct text_bytes *text)
{
    const unsigned lines = strcmp(in->form, "@") == 0 ? 1 : 100;
    unsigned c, n = 0;
    for (; n < lines && next_point(in, &c); n++) {
        text_bytes_add(text, "\n", n > 0);
        for (const char *p = in->form; *p; p++)
            if (*p == '@')
                text->n += utf8_put(text_bytes_room(text, 4), c);
            else
                text_bytes_add(text, *p == '_' ? " " : p, 1);
    }
    return n > 0;
}

static bool next_text(struct input *in, struct text_bytes *text)
{
    uint32_t n;
    if (in->form)
        return next_form(in, text);
    if (!read_all(&n, sizeof n))
        return false;
    char *raw = mem_alloc(n + 1u);
    if (!read_all(raw, n))
        exit(99);
    utf8_repair(raw, n, text);
    mem_free(raw);
    return true;
}

static void chat(struct encoder *x, const char *name)
{
    struct chat_template c;
    struct chat_tokens out = { 0 };
    char line[1 << 14];
    const char *why;
    check(chat_template_find(strcmp(name, "-") == 0 ? NULL : name, t, &c, &e));
    while (fgets(line, sizeof line, stdin)) {
        check(chat_encode(&c, x, t, line, "messages", &out, &why, &e));
        for (uint32_t i = 0; !why && i < out.ids.n; i++)
            printf("%s%u%s", i ? " " : "", out.ids.at[i], out.mask.at[i] ? "*" : "");
        printf("%s\n", why ? why : "");
    }
    chat_template_free(&c);
    chat_tokens_free(&out);
}

int main(int argc, char **argv)
{
    const char *pattern = NULL, *template = NULL;
    bool decodes = false;
    double seconds = 0;
    uint64_t most = UINT64_MAX;
    struct input in = { .next = 1 };
    for (int c; (c = getopt(argc, argv, "p:sc:dn:t:u:m:")) != -1;)
        if (c == 'p')
            pattern = optarg;
        else if (c == 's')
            flags |= ENCODE_PLAIN_SPECIALS;
        else if (c == 'c')
            cut_bytes = strtoull(optarg, NULL, 10);
        else if (c == 'n')
            most = strtoull(optarg, NULL, 10);
        else if (c == 'm')
            template = optarg;
        else if (c == 'u')
            in.form = optarg;
        else if (c == 'd')
            decodes = true;
        else
            seconds = strtod(optarg, NULL);
    struct tokenizer *opened;
    check(tokenizer_open(argv[optind], pattern, &opened, &e));
    t = opened;
    struct encoder *x = encoder_new(t);
    struct texts texts = { 0 };
    struct token_ids out = { 0 };
    if (template)
        chat(x, template);
    struct text_bytes text = { 0 };
    for (; !template && most && next_text(&in, &text); most--) {
        struct text_bytes back = { 0 };
        if (seconds > 0) {
            vec_add(&texts, text);
            text = (struct text_bytes){ 0 };
            continue;
        }
        out.n = 0;
        encode(x, text.at, text.n, &out);
        if (decodes)
            tokenizer_decode(t, out.at, out.n, false, &back);
        const uint32_t n = decodes ? (uint32_t)back.n : out.n;
        fwrite(&n, sizeof n, 1, stdout);
        if (n)
            fwrite(decodes ? (const void *)back.at : out.at, decodes ? 1 : 4, n, stdout);
        text_bytes_free(&back);
        text.n = 0;
    }
    text_bytes_free(&text);
    if (seconds > 0)
        measure(x, &texts, seconds);
    for (uint32_t i = 0; i < texts.n; i++)
        text_bytes_free(&texts.at[i]);
    vec_free(&texts);
    vec_free(&out);
    encoder_free(x);
    tokenizer_free(opened);
    return fflush(stdout) ? 74 : 0;
}
