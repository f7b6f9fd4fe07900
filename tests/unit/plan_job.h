/* Small jobs, built by hand with plan_builder, for the tests of the plan and of its checker.
 *
 * Model: embed -> linear -> linear -> head_loss, T = 4, 4 features, 8 words. Stages: 1, or 2 of two operators. dp
 * replicas of each stage; all forwards, then all backwards (gpipe). One bucket a stage. Lists "train" and "eval". */
#ifndef TESTS_UNIT_PLAN_JOB_H
#define TESTS_UNIT_PLAN_JOB_H

#include "ir/graph.h"
#include "ir/plan.h"
#include "ir/target.h"

enum { JOB_MB = 2, JOB_TENSOR = 64, JOB_TOKENS = 16, JOB_LOGITS = 128 };
enum { STREAM_COMPUTE, STREAM_FORWARD, STREAM_BACKWARD, STREAM_DP };
enum { SET_ME, SET_ALL, SET_COUNT = SET_ALL + 2 }; /* set of stage s: SET_ALL + s */
enum { GROUP_ALL, GROUP_ME };

struct job {
    struct ir_graph g;
    uint32_t stages, dp;
    struct plan_builder b[2];
    void *blob[2];
    uint64_t bytes[2];
    struct plan plan[2];
};

static inline uint64_t job_workspace(const struct ir_kernel *k)
{
    (void)k;
    return 0;
}
static const struct ir_target job_target = { .name = "job", .alignment = 4, .workspace = job_workspace };

static inline void job_graph(struct ir_graph *g)
{
    ir_graph_init(g);
    g->family = "graph";
    g->seq_len = 4;
    g->vocab = 8;
    g->n_blocks = 1;
    struct ir_shape ids = { .dtype = IR_I32, .ndim = 1, .dim = { 4 } };
    struct ir_shape w = { .dtype = IR_COMPUTE, .ndim = 2, .dim = { 4, 4 } };
    struct ir_shape v = { .dtype = IR_COMPUTE, .ndim = 2, .dim = { 8, 4 } };
    uint32_t tokens = ir_graph_input(g, "tokens", ids), targets = ir_graph_input(g, "targets", ids), x, p;
    const struct ir_attrs word = { .vocab = 8, .features = 4 }, linear = { .in_features = 4, .out_features = 4 };
    const uint32_t none = IR_NONE;
    p = ir_graph_param(g, "embed.weight", v, IR_INIT_NORMAL, 1);
    x = ir_graph_op(g, IR_OP_EMBED, "embed", 0, &word, &(struct ir_op_in){ { tokens, none, none }, { p, none, none } });
    p = ir_graph_param(g, "l0.weight", w, IR_INIT_NORMAL, 1);
    x = ir_graph_op(g, IR_OP_LINEAR, "l0", 0, &linear,
                    &(struct ir_op_in){ { ir_graph_out(g, x, 0), none, none }, { p, none, none } });
    p = ir_graph_param(g, "l1.weight", w, IR_INIT_NORMAL, 1);
    x = ir_graph_op(g, IR_OP_LINEAR, "l1", 0, &linear,
                    &(struct ir_op_in){ { ir_graph_out(g, x, 0), none, none }, { p, none, none } });
    p = ir_graph_param(g, "head.weight", v, IR_INIT_NORMAL, 1);
    ir_graph_op(g, IR_OP_HEAD_LOSS, "head", 0, &word,
                &(struct ir_op_in){ { ir_graph_out(g, x, 0), targets, none }, { p, none, none } });
}

/* ---- programs: one F, one B, one F of eval a stage ---- */

/* Slots of all programs of a stage; kinds and bytes follow. */
enum { SLOT_X, SLOT_Y, SLOT_TARGETS, SLOT_K, SLOT_P, SLOT_G, SLOT_DY, SLOT_DX, SLOT_T, JOB_SLOTS };

static inline void job_operand(struct plan_builder *b, uint32_t index, uint32_t slot, uint64_t offset)
{
    b->kernels.at[b->kernels.n - 1].mask |= 1u << index;
    vec_add(&b->operands, ((struct plan_operand){ .slot = slot, .offset = offset }));
}

static inline void job_kernel(struct plan_builder *b, const struct ir_graph *g, uint32_t op, enum ir_pass pass)
{
    vec_add(&b->kernels, ((struct plan_kernel){
                             .op = g->ops.at[op].op, .graph_op = op, .pass = pass, .first_operand = b->operands.n }));
}

/* Offset of parameter i of the stage in its bucket, bytes. */
static inline uint64_t job_param(uint32_t first_op, uint32_t op)
{
    static const uint64_t at[5] = { 0, 128, 192, 256, 384 };
    return at[op] - at[first_op];
}

static inline void job_slots(struct plan_builder *b, uint32_t first_op, uint32_t end_op, enum ir_pass pass, bool eval)
{
    bool f = pass == IR_PASS_F;
    uint64_t bucket = job_param(first_op, end_op);
    const struct plan_slot slots[JOB_SLOTS] = {
        [SLOT_X] = { first_op ? JOB_TENSOR : JOB_TOKENS, PLAN_READ, SLOT_TENSOR },
        [SLOT_Y] = { end_op == 4 || !f ? 0 : JOB_TENSOR, PLAN_WRITE, SLOT_TENSOR },
        [SLOT_TARGETS] = { end_op == 4 && f ? JOB_TOKENS : 0, PLAN_READ, SLOT_TENSOR },
        [SLOT_K] = { 3 * JOB_TENSOR + JOB_LOGITS, f ? PLAN_WRITE : PLAN_READ, eval ? SLOT_TEMP : SLOT_KEEP },
        [SLOT_P] = { bucket, PLAN_READ, SLOT_PARAM },
        [SLOT_G] = { f ? 0 : bucket, PLAN_READ | PLAN_WRITE, SLOT_GRAD },
        [SLOT_DY] = { end_op == 4 || f ? 0 : JOB_TENSOR, PLAN_READ, SLOT_GRADIENT },
        [SLOT_DX] = { first_op == 0 || f ? 0 : JOB_TENSOR, PLAN_WRITE, SLOT_GRADIENT },
        [SLOT_T] = { f ? 0 : 4 * JOB_TENSOR, PLAN_READ | PLAN_WRITE, SLOT_TEMP },
    };
    for (uint32_t i = 0; i < JOB_SLOTS; i++)
        vec_add(&b->slots, slots[i]);
}

static inline void job_forward(struct plan_builder *b, const struct ir_graph *g, uint32_t first_op, uint32_t end_op)
{
    for (uint32_t op = first_op; op < end_op; op++) {
        job_kernel(b, g, op, IR_PASS_F);
        if (op == first_op)
            job_operand(b, OPERAND_IN, SLOT_X, 0);
        else
            job_operand(b, OPERAND_IN, SLOT_K, (op - 1) * JOB_TENSOR);
        if (op == 3)
            job_operand(b, OPERAND_IN + 1, SLOT_TARGETS, 0);
        else if (op == end_op - 1)
            job_operand(b, OPERAND_OUT, SLOT_Y, 0);
        else
            job_operand(b, OPERAND_OUT, SLOT_K, op * JOB_TENSOR);
        if (op == 3)
            job_operand(b, OPERAND_SAVE, SLOT_K, 3 * JOB_TENSOR);
        job_operand(b, OPERAND_PARAM, SLOT_P, job_param(first_op, op));
    }
}

/* Where x of an operator stands, and the gradient of its output. */
static inline void job_x(struct plan_builder *b, uint32_t first_op, uint32_t op)
{
    if (op == first_op)
        job_operand(b, OPERAND_IN, SLOT_X, 0);
    else
        job_operand(b, OPERAND_IN, SLOT_K, (op - 1) * JOB_TENSOR);
}

static inline void job_dout(struct plan_builder *b, uint32_t end_op, uint32_t op)
{
    if (op == end_op - 1)
        job_operand(b, OPERAND_DOUT, SLOT_DY, 0);
    else
        job_operand(b, OPERAND_DOUT, SLOT_T, op * JOB_TENSOR);
}

static inline void job_backward(struct plan_builder *b, const struct ir_graph *g, uint32_t first_op, uint32_t end_op)
{
    for (uint32_t op = end_op; op-- > first_op;) {
        job_kernel(b, g, op, IR_PASS_BW);
        job_x(b, first_op, op);
        if (op == 3)
            job_operand(b, OPERAND_SAVE, SLOT_K, 3 * JOB_TENSOR);
        else
            job_dout(b, end_op, op);
        job_operand(b, OPERAND_DPARAM, SLOT_G, job_param(first_op, op));
        if (op == 0)
            continue; /* nothing asks for the gradient of tokens */
        job_kernel(b, g, op, IR_PASS_BI);
        if (op == 3)
            job_operand(b, OPERAND_SAVE, SLOT_K, 3 * JOB_TENSOR);
        job_operand(b, OPERAND_PARAM, SLOT_P, job_param(first_op, op));
        if (op != 3)
            job_dout(b, end_op, op);
        job_operand(b, OPERAND_DIN, op == first_op ? SLOT_DX : SLOT_T, op == first_op ? 0 : (op - 1) * JOB_TENSOR);
    }
}

static inline void job_program(struct plan_builder *b, const struct ir_graph *g, uint32_t stage, uint32_t stages,
                               enum ir_pass pass, bool eval)
{
    uint32_t first_op = stage * 2, end_op = stages == 1 ? 4 : first_op + 2;
    struct plan_program p = { .chunk = stage,
                              .sub = stage,
                              .pass = pass,
                              .first_kernel = b->kernels.n,
                              .first_slot = b->slots.n,
                              .n_slots = JOB_SLOTS,
                              .ep = 1,
                              .eval = eval,
                              .seconds = 0.125f };
    job_slots(b, first_op, end_op, pass, eval);
    if (pass == IR_PASS_F)
        job_forward(b, g, first_op, end_op);
    else
        job_backward(b, g, first_op, end_op);
    p.n_kernels = b->kernels.n - p.first_kernel;
    vec_add(&b->programs, p);
}

/* ---- tables ---- */

static inline void job_tables(struct job *j, uint32_t s)
{
    struct plan_builder *b = &j->b[s];
    uint32_t size = (uint32_t)job_param(s * 2, j->stages == 1 ? 4 : s * 2 + 2), n = size / 4;
    b->h = (struct plan_header){ .class_id = s,
                                 .n_classes = j->stages,
                                 .world = j->stages * j->dp,
                                 .compute = IR_F32,
                                 .n_channels_world = 1 + j->stages,
                                 .clip = 1,
                                 .devices = SET_ME };
    for (uint32_t i = 0; i <= j->stages; i++) { /* mine, then those of all stages: rank = stage + stages * replica */
        uint32_t stage = i == SET_ME ? s : i - 1;
        vec_add(&b->ranges, ((struct plan_range){ stage, j->stages, j->dp }));
        vec_add(&b->sets, ((struct plan_set){ i, 1, j->dp }));
    }
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_UNION, SET_ALL, j->stages }));
    vec_add(&b->groups, ((struct plan_group){ PLAN_GROUP_UNION, SET_ME, 1 }));
    static const char *const names[] = { "default_stream", "forward", "backward", "dp" };
    for (int i = 0; i < 4; i++)
        vec_add(&b->streams, ((struct plan_stream){ .name = plan_builder_text(b, names[i]), .priority = -i }));
    vec_add(&b->channels, ((struct plan_channel){ 0, GROUP_ALL, STREAM_COMPUTE }));
    vec_add(&b->channels, ((struct plan_channel){ 1 + s, GROUP_ME, STREAM_DP }));
    vec_add(&b->buckets, ((struct plan_bucket){ .n_pieces = j->stages == 1 ? 4 : 2,
                                                .holders = GROUP_ME,
                                                .type = IR_F32,
                                                .elements = n,
                                                .n_decay = n,
                                                .master = UINT64_MAX,
                                                .m = 0,
                                                .v = size,
                                                .snapshot = UINT64_MAX }));
    for (uint32_t op = s * 2; op < (j->stages == 1 ? 4 : s * 2 + 2); op++)
        vec_add(&b->pieces, ((struct plan_piece){ .param = op,
                                                  .count = (job_param(0, op + 1) - job_param(0, op)) / 4,
                                                  .offset = job_param(s * 2, op) / 4,
                                                  .split = 1,
                                                  .owners = GROUP_ME }));
    b->h.arena_bytes[ARENA_PARAMS] = b->h.arena_bytes[ARENA_GRADS] = size;
    b->h.arena_bytes[ARENA_OPTIM] = 2 * size;
    b->h.arena_bytes[ARENA_SCALARS] = 64;
    job_program(b, &j->g, s, j->stages, IR_PASS_F, false);
    job_program(b, &j->g, s, j->stages, IR_PASS_B, false);
    job_program(b, &j->g, s, j->stages, IR_PASS_F, true);
}

/* ---- lists ---- */

struct job_list { /* of one class; buffers and instructions by microbatch, PLAN_NONE: has none */
    struct job *j;
    struct plan_builder *b;
    uint32_t s, list, first;
    uint32_t slot[JOB_MB][JOB_SLOTS];
    uint32_t temp_at; /* all temporaries share their bytes */
};

enum { JOB_BETWEEN = 3 }; /* tensor that travels between the stages: the output of l0 */

static inline uint32_t job_buffer(struct job_list *l, uint64_t offset, uint64_t bytes, enum plan_slot_kind role,
                                  uint32_t what, uint32_t mb)
{
    uint64_t *work = &l->b->h.arena_bytes[ARENA_WORK];
    if (offset == UINT64_MAX)
        offset = *work;
    if (*work < offset + bytes)
        *work = offset + bytes;
    vec_add(&l->b->buffers, ((struct plan_buffer){ .offset = offset,
                                                   .bytes = bytes,
                                                   .kind = MEM_ACTIVATIONS,
                                                   .role = role,
                                                   .what = what,
                                                   .mb = (uint16_t)mb,
                                                   .list = (uint16_t)l->list }));
    return l->b->buffers.n - 1;
}

static inline uint32_t job_instr(struct job_list *l, enum plan_op op, uint32_t mb, uint32_t stream, uint32_t node)
{
    vec_add(&l->b->instrs, ((struct plan_instr){ .op = (uint8_t)op,
                                                 .pass = IR_PASS_NONE,
                                                 .stream = (uint16_t)stream,
                                                 .mb = (uint16_t)mb,
                                                 .type = IR_F32,
                                                 .node = node,
                                                 .first_wait = l->b->waits.n,
                                                 .first_base = l->b->bases.n,
                                                 .channel = PLAN_NONE,
                                                 .my_set = PLAN_NONE,
                                                 .peer_set = PLAN_NONE }));
    return l->b->instrs.n - 1 - l->first;
}

static inline struct plan_instr *job_last(struct job_list *l)
{
    return &l->b->instrs.at[l->b->instrs.n - 1];
}

static inline void job_wait(struct job_list *l, uint32_t on)
{
    vec_add(&l->b->waits, on);
    job_last(l)->n_waits++;
}

static inline void job_base(struct job_list *l, enum plan_arena arena, uint32_t buffer, uint32_t access)
{
    uint64_t offset = arena == ARENA_WORK ? l->b->buffers.at[buffer].offset : 0;
    vec_add(&l->b->bases,
            ((struct plan_base){
                .arena = (uint8_t)arena, .access = (uint16_t)access, .buffer = buffer, .offset = offset }));
    job_last(l)->n_bases++;
}

static inline uint32_t job_load(struct job_list *l, uint32_t mb, uint32_t tensor, uint32_t slot)
{
    uint32_t i = job_instr(l, PLAN_LOAD, mb, STREAM_COMPUTE, 0);
    l->slot[mb][slot] = job_buffer(l, UINT64_MAX, JOB_TOKENS, SLOT_TENSOR, tensor, mb);
    job_last(l)->what = tensor;
    job_last(l)->my_set = SET_ALL + l->s;
    job_base(l, ARENA_WORK, l->slot[mb][slot], PLAN_WRITE);
    return i;
}

/* A transfer of one tensor between the two stages; nodes and tags say which. */
static inline uint32_t job_move(struct job_list *l, enum plan_op op, uint32_t mb, bool backward, uint32_t buffer)
{
    uint32_t i = job_instr(l, op, mb, backward ? STREAM_BACKWARD : STREAM_FORWARD, 100 + 10 * backward + mb);
    struct plan_instr *in = job_last(l);
    in->tag = mb;
    in->tensor = JOB_BETWEEN;
    in->count = JOB_TENSOR / 4;
    in->my_set = SET_ALL + l->s;
    in->peer_set = SET_ALL + 1 - l->s;
    job_base(l, ARENA_WORK, buffer, op == PLAN_SEND ? PLAN_READ : PLAN_WRITE);
    return i;
}

static inline uint32_t job_run(struct job_list *l, uint32_t program, uint32_t mb)
{
    uint32_t i = job_instr(l, PLAN_RUN, mb, STREAM_COMPUTE, 0);
    const struct plan_program *p = &l->b->programs.at[program];
    job_last(l)->what = program;
    job_last(l)->pass = (uint8_t)p->pass;
    uint32_t temp = PLAN_NONE;
    for (uint32_t k = 0; k < JOB_SLOTS; k++) {
        const struct plan_slot *s = &l->b->slots.at[p->first_slot + k];
        bool bucket = s->kind == SLOT_PARAM || s->kind == SLOT_GRAD;
        uint32_t buffer = bucket ? 0 : l->slot[mb][k];
        if (!bucket && buffer == PLAN_NONE) { /* an empty slot, or a temporary of this run */
            if (temp == PLAN_NONE)
                temp = job_buffer(l, l->temp_at, 5 * JOB_TENSOR, SLOT_TEMP, l->s, mb);
            buffer = temp;
        }
        job_base(l,
                 s->kind == SLOT_PARAM  ? ARENA_PARAMS
                 : s->kind == SLOT_GRAD ? ARENA_GRADS
                                        : ARENA_WORK,
                 buffer, s->access);
        l->b->bases.at[l->b->bases.n - 1].first = s->kind == SLOT_GRAD && mb == 0 && p->pass != IR_PASS_F;
    }
    return i;
}

static inline void job_one_list(struct job *j, uint32_t s, bool eval)
{
    struct job_list l = { .j = j, .b = &j->b[s], .s = s, .list = eval };
    bool head = s == j->stages - 1;
    uint32_t sent[JOB_MB], last = 0;
    l.first = l.b->instrs.n;
    l.temp_at = (uint32_t)l.b->h.arena_bytes[ARENA_WORK];
    l.b->h.arena_bytes[ARENA_WORK] += 5 * JOB_TENSOR;
    memset(l.slot, 0xff, sizeof l.slot);
    for (uint32_t mb = 0; mb < JOB_MB; mb++) {
        uint32_t recv = PLAN_NONE;
        if (s == 0) {
            job_load(&l, mb, 0, SLOT_X);
        } else {
            l.slot[mb][SLOT_X] = job_buffer(&l, UINT64_MAX, JOB_TENSOR, SLOT_TENSOR, JOB_BETWEEN, mb);
            recv = job_move(&l, PLAN_RECV, mb, false, l.slot[mb][SLOT_X]);
        }
        if (head)
            job_load(&l, mb, 1, SLOT_TARGETS);
        else
            l.slot[mb][SLOT_Y] = job_buffer(&l, UINT64_MAX, JOB_TENSOR, SLOT_TENSOR, JOB_BETWEEN, mb);
        if (!eval)
            l.slot[mb][SLOT_K] = job_buffer(&l, UINT64_MAX, 3 * JOB_TENSOR + JOB_LOGITS, SLOT_KEEP, s, mb);
        last = job_run(&l, eval ? 2 : 0, mb);
        if (recv != PLAN_NONE)
            job_wait(&l, recv);
        if (!head) {
            sent[mb] = job_move(&l, PLAN_SEND, mb, false, l.slot[mb][SLOT_Y]);
            job_wait(&l, last);
        }
    }
    for (uint32_t mb = 0; mb < JOB_MB && !eval; mb++) {
        uint32_t recv = PLAN_NONE;
        if (!head) { /* the gradient takes the place of the activation, once that is sent */
            l.slot[mb][SLOT_DY] = job_buffer(&l, l.b->buffers.at[l.slot[mb][SLOT_Y]].offset, JOB_TENSOR, SLOT_GRADIENT,
                                             JOB_BETWEEN, mb);
            recv = job_move(&l, PLAN_RECV, mb, true, l.slot[mb][SLOT_DY]);
            job_wait(&l, sent[mb]);
        }
        if (s > 0)
            l.slot[mb][SLOT_DX] = job_buffer(&l, UINT64_MAX, JOB_TENSOR, SLOT_GRADIENT, JOB_BETWEEN, mb);
        l.slot[mb][SLOT_Y] = l.slot[mb][SLOT_TARGETS] = PLAN_NONE;
        last = job_run(&l, 1, mb);
        if (recv != PLAN_NONE)
            job_wait(&l, recv);
        if (s > 0) {
            job_move(&l, PLAN_SEND, mb, true, l.slot[mb][SLOT_DX]);
            job_wait(&l, last);
        }
    }
    uint32_t reduce = PLAN_NONE;
    if (!eval && j->dp > 1) {
        reduce = job_instr(&l, PLAN_ALL_REDUCE, UINT16_MAX, STREAM_DP, 200 + s);
        job_last(&l)->channel = 1;
        job_last(&l)->count = l.b->buckets.at[0].elements;
        job_base(&l, ARENA_GRADS, 0, PLAN_READ | PLAN_WRITE);
        job_wait(&l, last);
    }
    if (!eval)
        job_instr(&l, PLAN_SUMSQ, UINT16_MAX, STREAM_COMPUTE, 210 + s);
    if (reduce != PLAN_NONE)
        job_wait(&l, reduce);
    job_instr(&l, PLAN_SCALARS, UINT16_MAX, STREAM_COMPUTE, 220);
    job_last(&l)->channel = 0;
    job_last(&l)->type = IR_F64;
    if (!eval)
        job_instr(&l, PLAN_UPDATE, UINT16_MAX, STREAM_COMPUTE, 230 + s);
    vec_add(&l.b->lists, ((struct plan_list){ plan_builder_text(l.b, eval ? "eval" : "train"), l.first,
                                              l.b->instrs.n - l.first, JOB_MB, 1, j->dp }));
}

/* ---- the job ---- */

static inline void job_init(struct job *j, uint32_t stages, uint32_t dp)
{
    *j = (struct job){ .stages = stages, .dp = dp };
    job_graph(&j->g);
    for (uint32_t s = 0; s < stages; s++) {
        job_tables(j, s);
        job_one_list(j, s, false);
        job_one_list(j, s, true);
    }
}

/* Blobs from builders, opened. */
static inline enum status job_open(struct job *j, struct err *e)
{
    for (uint32_t s = 0; s < j->stages; s++) {
        mem_free(j->blob[s]);
        j->blob[s] = plan_build(&j->b[s], &j->bytes[s]);
        TRY(plan_open(j->blob[s], j->bytes[s], j->g.ops.n, j->g.params.n, j->g.tensors.n, &j->plan[s], e));
    }
    return ST_OK;
}

static inline void job_release(struct job *j)
{
    for (uint32_t s = 0; s < j->stages; s++) {
        mem_free(j->blob[s]);
        plan_builder_release(&j->b[s]);
    }
    ir_graph_release(&j->g);
}

#endif
