/* Tables of the fields of plan records, for printing and reading. */
#include "ir/plan_text.h"

#include <stddef.h>

static const char *pass_text(uint32_t v)
{
    return ir_pass_name((enum ir_pass)v);
}

static const char *dtype_text(uint32_t v)
{
    return ir_dtype_name((enum ir_dtype)v);
}

static const char *op_text(uint32_t v)
{
    return ir_op_info[v].name;
}

static const char *plan_op_text(uint32_t v)
{
    return plan_op_name((enum plan_op)v);
}

static const char *memory_text(uint32_t v)
{
    return plan_memory_name((enum plan_kind_of_memory)v);
}

static const char *group_text(uint32_t v)
{
    return v == PLAN_GROUP_UNION ? "UNION" : "EACH";
}

static const char *slot_text(uint32_t v)
{
    static const char *const names[] = { "param", "grad", "tensor", "gradient", "keep", "stash", "temp", "ring" };
    return names[v];
}

static const char *access_text(uint32_t v)
{
    static const char *const names[] = { "none", "r", "w", "rw" };
    return names[v];
}

const char *plan_arena_name(uint32_t arena)
{
    static const char *const names[ARENA_COUNT] = { "params",  "grads", "optimizer", "work",
                                                    "scalars", "comm",  "snapshot" };
    return names[arena];
}

const char *plan_operand_name(uint32_t index)
{
    static const char *const names[OPERAND_COUNT] = {
        "in0",    "in1",     "in2",     "in3",     "out0",    "out1",    "out2",    "save0",  "save1",
        "stash0", "stash1",  "param0",  "param1",  "param2",  "param3",  "param4",  "param5", "dout0",
        "dout1",  "dout2",   "din0",    "din1",    "din2",    "din3",    "acc0",    "acc1",   "acc2",
        "acc3",   "dparam0", "dparam1", "dparam2", "dparam3", "dparam4", "dparam5", "work",
    };
    return names[index];
}
_Static_assert(OPERAND_COUNT == 35 && OPERAND_STASH == 9 && OPERAND_DIN == 20, "names of operands");

#define FIELD(T, f, type_, name_, count_)                                           \
    {                                                                               \
#f, offsetof(struct T, f), sizeof(((struct T *)0)->f), type_, name_, count_ \
    }
#define U(T, f)              FIELD(T, f, 'u', NULL, 0)
#define E(T, f, name, count) FIELD(T, f, 'e', name, count)
#define END                    \
    {                          \
        NULL, 0, 0, 0, NULL, 0 \
    }

static const char *rule_text(uint32_t v)
{
    return v == PLAN_RULE_OPTIMIZER ? "optimizer" : v == PLAN_RULE_BALANCE ? "balance" : "frozen";
}

const struct plan_field plan_header_fields[] = {
    U(plan_header, class_id),
    U(plan_header, n_classes),
    U(plan_header, devices),
    U(plan_header, world),
    U(plan_header, n_channels_world),
    E(plan_header, compute, dtype_text, IR_BYTE + 1),
    U(plan_header, optimizer),
    U(plan_header, clip),
    U(plan_header, share),
    U(plan_header, context),
    U(plan_header, tensor),
    U(plan_header, zigzag),
    U(plan_header, share_group),
    END,
};
const struct plan_field plan_group_fields[] = {
    E(plan_group, kind, group_text, 2),
    U(plan_group, first_set),
    U(plan_group, n_sets),
    END,
};
const struct plan_field plan_channel_fields[] = {
    U(plan_channel, id),
    U(plan_channel, group),
    U(plan_channel, stream),
    END,
};
const struct plan_field plan_stream_fields[] = {
    U(plan_stream, name),    U(plan_stream, max_ctas),      FIELD(plan_stream, priority, 'i', NULL, 0),
    U(plan_stream, scratch), U(plan_stream, scratch_bytes), END,
};
const struct plan_field plan_bucket_fields[] = {
    U(plan_bucket, holders),
    U(plan_bucket, zero),
    E(plan_bucket, type, dtype_text, IR_BYTE + 1),
    E(plan_bucket, rule, rule_text, PLAN_RULE_FROZEN + 1),
    U(plan_bucket, elements),
    U(plan_bucket, n_decay),
    U(plan_bucket, param),
    U(plan_bucket, grad),
    U(plan_bucket, master),
    U(plan_bucket, m),
    U(plan_bucket, v),
    U(plan_bucket, snapshot),
    U(plan_bucket, zero_group),
    U(plan_bucket, shard),
    U(plan_bucket, copies),
    U(plan_bucket, state_all),
    END,
};
const struct plan_field plan_piece_fields[] = {
    U(plan_piece, param),
    U(plan_piece, part_of),
    U(plan_piece, first),
    U(plan_piece, count),
    U(plan_piece, offset),
    U(plan_piece, run),
    U(plan_piece, stride),
    U(plan_piece, elements),
    U(plan_piece, split),
    U(plan_piece, owners),
    END,
};
const struct plan_field plan_program_fields[] = {
    U(plan_program, chunk),
    U(plan_program, sub),
    E(plan_program, pass, pass_text, IR_PASS_COUNT + 1),
    U(plan_program, ep),
    U(plan_program, eval),
    U(plan_program, tokens),
    U(plan_program, parts),
    U(plan_program, phases),
    FIELD(plan_program, seconds, 'f', NULL, 0),
    END,
};
const struct plan_field plan_slot_fields[] = {
    U(plan_slot, bytes),
    E(plan_slot, access, access_text, 4),
    E(plan_slot, kind, slot_text, SLOT_KINDS),
    END,
};
const struct plan_field plan_kernel_fields[] = {
    E(plan_kernel, op, op_text, IR_OP_COUNT),
    E(plan_kernel, pass, pass_text, IR_PASS_COUNT + 1),
    U(plan_kernel, graph_op),
    U(plan_kernel, tensor),
    U(plan_kernel, again),
    E(plan_kernel, type, dtype_text, IR_BYTE + 1),
    U(plan_kernel, split),
    U(plan_kernel, parts),
    U(plan_kernel, n),
    END,
};
const struct plan_field plan_list_fields[] = {
    U(plan_list, name), U(plan_list, microbatches), U(plan_list, microbatch_size), U(plan_list, replicas), END,
};
const struct plan_field plan_buffer_fields[] = {
    U(plan_buffer, offset),
    U(plan_buffer, bytes),
    E(plan_buffer, kind, memory_text, MEM_KINDS),
    E(plan_buffer, role, slot_text, SLOT_KINDS),
    U(plan_buffer, layout),
    U(plan_buffer, what),
    U(plan_buffer, mb),
    U(plan_buffer, list),
    END,
};
const struct plan_field plan_instr_fields[] = {
    E(plan_instr, op, plan_op_text, PLAN_OP_COUNT),
    E(plan_instr, pass, pass_text, IR_PASS_COUNT + 1),
    U(plan_instr, mb),
    U(plan_instr, stream),
    U(plan_instr, what),
    U(plan_instr, node),
    U(plan_instr, tag),
    U(plan_instr, channel),
    U(plan_instr, my_set),
    U(plan_instr, peer_set),
    U(plan_instr, count),
    E(plan_instr, type, dtype_text, IR_BYTE + 1),
    FIELD(plan_instr, seconds, 'f', NULL, 0),
    END,
};
