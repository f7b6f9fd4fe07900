/* The text form of a plan, one record a line. Private to plan_print.c and plan_parse.c, which share the tables of
 * fields, so that what is printed can be read.
 *
 *   plan class=0 n_classes=2 ...        the header; then `arenas` and `peaks`, name=bytes
 *   text 0 "default_stream"             strings, by offset
 *   set 0 0+1*4 9+0*1                   ranges: start+stride*count
 *   group, channel, stream, bucket      key=value; fields that are 0 are left out, `-` is "none"
 *   piece ...                           of the bucket above
 *   program 3 chunk=0 sub=1 pass=F ...  and below it its slots and kernels
 *   kernel 7 op=linear pass=F graph_op=3 in0=2+0 param0=0+64 out0=4+128    operands: slot+offset, `!`: adds
 *   kernel 8 op=sum pass=BI graph_op=- tensor=5 in0=2+0 in1=3+0 out0=2+0   parts of the gradient of tensor 5
 *   list 0 name=15 ...                  and below it its instructions
 *   instr 4 op=RUN pass=F mb=0 what=3 waits=1,2 bases=work+0@5:rw,grads+64@0:rw!
 *                                       bases: arena+offset@buffer:access (r, w, o: own shard, p: own part), `!`: first
 *   buffer 5 ...
 *
 * Numbers of records are positions, relative to the owner for slots, kernels and instructions (waits name them). What
 * follows ` # ` is for people: names of operators, tensors, parameters and streams. */
#ifndef PIPER_IR_PLAN_TEXT_H
#define PIPER_IR_PLAN_TEXT_H

#include "ir/plan.h"

struct plan_field {
    const char *key;
    uint16_t offset;
    uint8_t size;                    /* bytes: 1, 2, 4, 8 */
    char type;                       /* 'u' number, all bits set is `-`; 'i' signed; 'f' float; 'e' name of an enum */
    const char *(*name)(uint32_t v); /* 'e' */
    uint32_t count;                  /* 'e': values 0 .. count-1 */
};
/* Ended by a key of NULL. Fields that follow from the position of records (first_slot, n_waits, ...) are not in them.
 * */
extern const struct plan_field plan_header_fields[], plan_group_fields[], plan_channel_fields[], plan_stream_fields[],
    plan_bucket_fields[], plan_piece_fields[], plan_program_fields[], plan_slot_fields[], plan_kernel_fields[],
    plan_list_fields[], plan_buffer_fields[], plan_instr_fields[];

const char *plan_arena_name(uint32_t arena);

#endif
