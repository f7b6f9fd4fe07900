/* Safetensors files, the exchange format of Hugging Face: an 8-byte little-endian length, a JSON header, then tensors.
 *
 * Import makes a checkpoint of step 0 out of one file, or of a folder with model.safetensors, or with
 * model.safetensors.index.json and its shards. F32, BF16, F16, F8_E4M3 with factors of blocks (X_scale_inv of X) and MXFP4
 * (X_blocks and X_scales of X) become float32. Export writes F32.
 *
 * Names and packings of tensors are those of the model's family (ir/family/files.h); a prefix `transformer.` or `model.`
 * may be missing or too many. A stacked parameter with `*` in its name is one tensor per expert there. Tied heads equal
 * to the embedding and buffers (attn.bias, attn.masked_bias, rotary_emb.inv_freq) are passed over. All functions are serial.
 */
#ifndef PIPER_IO_SAFETENSORS_H
#define PIPER_IO_SAFETENSORS_H

#include "base/mem.h"
#include "base/status.h"
#include "io/checkpoint.h"
#include "ir/family/quantization.h"

enum safetensors_type {
    SAFETENSORS_F32,
    SAFETENSORS_BF16,
    SAFETENSORS_F16,
    SAFETENSORS_F8_E4M3, /* with factors, or not to be read */
    SAFETENSORS_MXFP4,   /* of two tensors; (E,rows,columns), where transformers has (E,columns,rows) */
    SAFETENSORS_F8_E8M0, /* factors: powers of 2 */
    SAFETENSORS_U8,      /* parts of MXFP4 alone */
    SAFETENSORS_OTHER
};
enum { SAFETENSORS_MAX_DIMS = 8 };
#define SAFETENSORS_NONE UINT32_MAX

struct safetensors_entry {
    const char *name;      /* the arena's */
    uint32_t file;         /* in files */
    uint32_t type;         /* enum safetensors_type */
    const char *type_name; /* as the file has it, static */
    uint32_t ndim;
    uint64_t dim[SAFETENSORS_MAX_DIMS];
    uint64_t elements;
    uint64_t offset;           /* in the file, bytes */
    uint32_t scale;            /* the entry of its factors, or SAFETENSORS_NONE */
    struct quantization block; /* of F8_E4M3 with factors */
    bool is_scale;             /* the factors of another */
};
struct safetensors_file {
    char *path;
    int fd;
};
struct safetensors {
    struct arena arena;
    struct safetensors_files {
        VEC(struct safetensors_file);
    } files;
    struct safetensors_entries {
        VEC(struct safetensors_entry);
    } entries;                  /* by name */
    struct quantization stored; /* of the folder's config.json */
};

/* Opens and validates: lengths, kinds, offsets inside the file, neither gaps nor overlaps. ST_MISSING, ST_INPUT. */
enum status safetensors_open(const char *path, struct safetensors *s, struct err *e);
void safetensors_close(struct safetensors *s);
const struct safetensors_entry *safetensors_find(const struct safetensors *s, const char *name); /* NULL: none */
/* Whether it can be read, and what can. */
bool safetensors_readable(const struct safetensors_entry *t);
extern const char safetensors_types[];
/* Elements [first, first + n) as float32. ST_INPUT for a type that is not. */
enum status safetensors_read(const struct safetensors *s, const struct safetensors_entry *t, uint64_t first, uint64_t n,
                             float *out, struct err *e);

/* Checkpoint `to` of model g from `from`. info: step, seed, digests; its optimizer must be "none". Missing, unexpected
 * and wrongly shaped tensors are answered with a list. *extra: tensors of multi-token prediction, which are left out. */
enum status safetensors_import(const char *from, const struct ir_graph *g, const struct checkpoint_info *info,
                               const char *to, uint32_t *extra, struct err *e);
/* The same values to who asks for them. */
enum status safetensors_load(const char *from, const struct ir_graph *g, const struct checkpoint_sink *to,
                             uint32_t *extra, struct err *e);
/* Whether all matrices are BF16. */
enum status safetensors_look(const char *from, bool *bf16, struct err *e);
/* The parameters of a checkpoint (verified first) as one file. in: the folder of a run that it is in, or NULL. */
enum status safetensors_export(const struct dir *in, const char *checkpoint, const char *to, struct err *e);

/* As a folder that transformers loads: model.safetensors, or files of at most file_bytes of data, a parameter's tensors always in one, and their
 * index. ST_INPUT: the checkpoint is not of this graph. */
struct safetensors_folder {
    const struct dir *folder;
    const struct ir_graph *graph;
    uint64_t file_bytes;
};
enum status safetensors_export_folder(const struct dir *in, const char *checkpoint, const struct safetensors_folder *to,
                                      struct err *e);
/* A JSON file in a folder, with sorted keys. */
enum status safetensors_write_json(const struct dir *folder, const char *name, const json_t *doc, struct err *e);

/* How many elements import and export copy at a time; a test of what happens at borders sets less. */
extern uint32_t safetensors_block;

/* Conversion, exact. */
float safetensors_from_bf16(uint16_t x);
float safetensors_from_f16(uint16_t x);
float safetensors_from_f8_e4m3(uint8_t x);

#endif
