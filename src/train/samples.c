/* What the model says after a step. The ranks send their parts of the parameters to rank 0, one after the other, which makes a model of
 * src/speak of them: the one that piper generate would make of the checkpoint of the step. */
#include <stdio.h>
#include <stdlib.h>

#include "job/keep_job.h"
#include "speak/sample.h"
#include "speak/speaker.h"
#include "speak/text.h"
#include "speak/tokens.h"
#include "train/private.h"
#include "watch/watch.h"

struct train_samples {
    struct tokenizer *t; /* NULL: tokens are bytes */
    struct token_ids ends, prompt[TRAIN_PROMPTS_MAX];
};

/* Elements that are sent at a time. */
enum { BLOCK = 1 << 22 };

bool train__sample_is_due(const struct train *t)
{
    return t->config->sample_every && !train__emulates(t) && t->step % t->config->sample_every == 0;
}

/* ---- before the first step: rank 0 reads the prompts ------------------------------------------------------------- */

static enum status encode(const struct train *t, struct train_samples *s, struct err *e)
{
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < t->config->n_sample_prompts; i++) {
        const char *text = t->config->sample_prompts[i];
        struct token_ids *to = &s->prompt[i];
        st = speak_encode(s->t, text, strlen(text), to, e);
        for (uint32_t k = 0; k < to->n && st == ST_OK; k++)
            if (to->at[k] >= t->job.graph.vocab)
                st = err_set(e, ST_INPUT, "sample_prompts", "token %u is not below %u, the vocabulary of the model",
                             to->at[k], t->job.graph.vocab);
    }
    return st;
}

static enum status find_tokenizer(const struct train *t, struct train_samples *s, struct err *e)
{
    char folder[DIR_PATH];
    snprintf(folder, sizeof folder, "%.4000s/" KEEP_TOKENIZER, t->dir->path);
    TRY(speak_tokenizer_in(folder, NULL, &s->t, e));
    if (!s->t)
        TRY(speak_tokenizer_of(t->data->at[0].path, NULL, &s->t, e));
    if (!s->t && t->job.graph.vocab != 256)
        return err_set(
            e, ST_INPUT, t->data->at[0].path,
            "does not contain the tokenizer that sample_prompts require; make it with piper data --tokenizer, "
            "or drop sample_every");
    return speak_ends(folder, t->job.model_text, s->t, &s->ends, e);
}

/* A model without values. */
static void borrow_graph(const struct train *t, struct speak_model *m)
{
    *m = (struct speak_model){ .compute = (enum ir_dtype)t->config->dtype, .step = t->step };
    ir_graph_borrow(&t->job.graph, &m->graph);
}

static const struct speak_want want = { SPEAK_GENERATE, IR_COMPUTE };

/* Whether rank 0 has the memory, and the model the positions. */
static enum status try_model(const struct train *t, const struct train_samples *s, struct err *e)
{
    struct speak_model m;
    struct speaker *speaker;
    borrow_graph(t, &m);
    enum status st = speak_model_begin(&m, &want, "sample_every: rank 0 collects the model", e);
    TRY(speak_model_end(&m, &want, st));
    for (uint32_t i = 0; st == ST_OK && i < t->config->n_sample_prompts; i++) {
        st = speaker_open(&m, s->prompt[i].n + (uint32_t)t->config->sample_tokens, &speaker, e);
        if (st == ST_OK)
            speaker_close(speaker);
    }
    speak_model_free(&m);
    return st;
}

enum status train__sample_open(struct train *t, struct err *e)
{
    if (!t->config->sample_every || train__emulates(t))
        return ST_OK;
    enum status st = ST_OK;
    if (world_rank() == 0) {
        t->samples = mem_alloc(sizeof *t->samples);
        compute_cpu.set_threads(t->threads);
        st = find_tokenizer(t, t->samples, e);
        if (st == ST_OK)
            st = encode(t, t->samples, e);
        if (st == ST_OK)
            st = try_model(t, t->samples, e);
    }
    return world_agree(st, e);
}

void train__sample_close(struct train *t)
{
    if (!t->samples)
        return;
    tokenizer_free(t->samples->t);
    vec_free(&t->samples->ends);
    for (uint32_t i = 0; i < TRAIN_PROMPTS_MAX; i++)
        vec_free(&t->samples->prompt[i]);
    mem_free(t->samples);
}

/* ---- parameters to rank 0 ------------------------------------------------------------------------------------------ */

/* Of rank r, block by block; block: room for one on rank 0, where r is another. */
static void send_piece(uint32_t r, const struct checkpoint_piece *p, float *block, struct speak_model *m)
{
    for (uint64_t at = 0; at < p->count; at += BLOCK) {
        const uint64_t n = p->count - at < BLOCK ? p->count - at : BLOCK;
        float *data = world_rank() == r ? p->data + at : block;
        world_pass(data, n * sizeof *data, r, 0);
        if (world_rank() == 0)
            speak_model_put(
                m, &(struct checkpoint_piece){ .param = p->param, .first = p->first + at, .count = n, .data = data },
                NULL);
    }
}

/* To rank 0, whose model is m. */
static void send_pieces(uint32_t r, const struct pieces *own, struct speak_model *m)
{
    const bool receives = world_rank() == 0 && r != 0;
    uint64_t n = own->list.n;
    world_pass(&n, sizeof n, r, 0);
    struct checkpoint_piece *list = receives ? mem_alloc(n * sizeof *list) : own->list.at;
    world_pass(list, n * sizeof *list, r, 0);
    float *block = receives ? mem_alloc(BLOCK * sizeof *block) : NULL;
    for (uint64_t i = 0; i < n; i++)
        send_piece(r, &list[i], block, m);
    mem_free(block);
    if (receives)
        mem_free(list);
}

/* ---- what it says -------------------------------------------------------------------------------------------------- */

/* The text that follows a prompt, control characters and line ends as codes; the caller frees it. */
static enum status say(const struct train *t, const struct speak_model *m, const struct token_ids *prompt,
                       struct text_bytes *line, struct err *e)
{
    static const struct sample_how greedy = { .top_p = 1 };
    const uint32_t room = prompt->n + (uint32_t)t->config->sample_tokens;
    struct speaker *speaker;
    char *said = NULL;
    size_t n = 0;
    TRY(speaker_open(m, room, &speaker, e));
    struct speak_text text = { .t = t->samples->t, .to = open_memstream(&said, &n) };
    speak_text_begin(&text, prompt->at, prompt->n);
    const float *logits = speaker_add(speaker, prompt->at, prompt->n);
    for (uint32_t i = prompt->n; i < room; i++) {
        const uint32_t id = sample_token(&greedy, logits, m->graph.vocab, 0);
        if (id == SAMPLE_NONE || speak_is_end(&t->samples->ends, id))
            break;
        speak_text_add(&text, id);
        if (i + 1 < room)
            logits = speaker_add(speaker, &id, 1);
    }
    speak_text_end(&text);
    fclose(text.to);
    speak_printable(said, n, line);
    free(said);
    speaker_close(speaker);
    return ST_OK;
}

/* One line, as much of it as a line of the log takes. */
static void print(struct train *t, uint32_t i, const struct text_bytes *said)
{
    char line[1200];
    size_t n = 0;
    for (size_t k = 0; k < said->n && n + 2 < sizeof line; k++) {
        const char c = said->at[k];
        if (c == '\n' || c == '\t')
            line[n++] = '\\';
        line[n++] = c == '\n' ? 'n' : c == '\t' ? 't' : c;
    }
    n = utf8_valid(line, n);
    log_note(&t->log, "step %llu  sample %u: %.*s", (unsigned long long)t->step, i + 1, (int)n, line);
}

static enum status say_all(struct train *t, const struct speak_model *m, struct err *e)
{
    for (uint32_t i = 0; i < t->config->n_sample_prompts; i++) {
        struct text_bytes said = { 0 };
        TRY(say(t, m, &t->samples->prompt[i], &said, e));
        print(t, i, &said);
        text_bytes_free(&said);
    }
    return ST_OK;
}

/* What keeps it from speaking now, as memory that others have taken since, is no reason to end the run. */
enum status train__sample(struct train *t, struct err *e)
{
    struct speak_model m = { 0 };
    struct pieces own;
    struct err why = { 0 };
    const double begin = clock_now();
    watch_phase("samples");
    exec_download(t->exec);
    if (world_rank() == 0) {
        borrow_graph(t, &m);
        speak_model_begin(&m, &want, "sample_every", &why);
    }
    uint64_t good = why.status == ST_OK;
    world_broadcast(&good, sizeof good);
    pieces_to_look_at(&t->plan, world_rank(), exec_arenas(t->exec), &own);
    for (uint32_t r = 0; good && r < world_size(); r++)
        if (world_rank() == 0 || world_rank() == r)
            send_pieces(r, &own, &m);
    pieces_release(&own);
    if (world_rank() == 0) {
        if (speak_model_end(&m, &want, why.status) == ST_OK)
            say_all(t, &m, &why);
        speak_model_free(&m);
        if (why.status != ST_OK)
            log_line(&t->log, "warning: no samples after step %llu: %s", (unsigned long long)t->step, why.text);
    }
    enum status st = world_agree(ST_OK, e);
    train__spend(t, TRAIN_SAMPLES, begin);
    watch_phase("between steps");
    return st;
}
