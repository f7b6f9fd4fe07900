/* Fuzzing of everything that reads what others wrote: mutate a file of the corpus, give it to a reader, see that it answers. */
#ifndef PIPER_TESTS_FUZZ_H
#define PIPER_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct fuzz_input {
    unsigned char *at; /* room for FUZZ_ROOM bytes; text targets may rely on a 0 after the last one */
    size_t n;
};
enum { FUZZ_ROOM = 1 << 22 };

struct fuzz_random {
    uint64_t state;
};
uint64_t fuzz_next(struct fuzz_random *r);
uint64_t fuzz_below(struct fuzz_random *r, uint64_t n);

/* mutate.c: a few changes of any kind; `other` is another file of the corpus, to splice from. */
void fuzz_mutate(struct fuzz_input *in, const struct fuzz_input *other, struct fuzz_random *r);
/* hdf5.c: makes the checksums of an HDF5 file right again, so that what was changed is read and not refused at once. */
void fuzz_repair_hdf5(struct fuzz_input *in);

/* targets.c: a reader. Returns 1 when it accepted the input, 0 when it refused it with a sentence; anything else is a
 * crash. `path`: the input as a file, for readers of files. */
enum { FUZZ_HDF5 = 65 /* the library crashed */, FUZZ_SETTING = 64 /* of the environment */ };
struct fuzz_target {
    const char *name;
    int (*run)(const struct fuzz_input *in, const char *path);
    int is_file;
    int ends; /* 0, or the exit status with which a process may end itself, having said why */
};
extern const struct fuzz_target fuzz_targets[];
/* What readers need beside the input: the job file and a tokenizer of the corpus. Makes its machine.h5. */
void fuzz_targets_open(const char *corpus);
/* 1: accepted. A refusal without a sentence, with a control character in it, or one that blames the program, is a failure of the
 * reader. */
int fuzz_answer(enum status st, const struct err *e);

/* What is written to a file in memory: it is emptied; it has no control character that a terminal could obey. */
void fuzz_quiet(int file);
void fuzz_check_said(int file);

/* targets_run.c */
void fuzz_make_machine(const char *path);
int fuzz_run_machine(const struct fuzz_input *in, const char *path);
int fuzz_run_topology(const struct fuzz_input *in, const char *path);
int fuzz_run_products(const struct fuzz_input *in, const char *path);
int fuzz_run_ring(const struct fuzz_input *in, const char *path);
int fuzz_run_halt(const struct fuzz_input *in, const char *path);
int fuzz_run_lock(const struct fuzz_input *in, const char *path);
/* targets_text.c */
int fuzz_run_tokenizer(const struct fuzz_input *in, const char *path);
void fuzz_open_chat(const char *path); /* of the tokenizer */
int fuzz_run_chat(const struct fuzz_input *in, const char *path);
int fuzz_run_ranks(const struct fuzz_input *in, const char *path);
int fuzz_run_pattern(const struct fuzz_input *in, const char *path);
int fuzz_run_lines(const struct fuzz_input *in, const char *path);
int fuzz_run_packed(const struct fuzz_input *in, const char *path);
int fuzz_run_ids(const struct fuzz_input *in, const char *path);
int fuzz_run_index(const struct fuzz_input *in, const char *path);

/* targets_commands.c */
struct command;
void fuzz_open_commands(const char *corpus);
/* The last word is followed by NULL. */
int fuzz_run_command(const struct command *c, char **words);
int fuzz_run_options(const struct fuzz_input *in, const char *path);
int fuzz_run_environment(const struct fuzz_input *in, const char *path);
int fuzz_run_folder(const struct fuzz_input *in, const char *path);
int fuzz_run_run(const struct fuzz_input *in, const char *path);
/* What an accepted file says, said. */
int fuzz_show_job(const char *path);
int fuzz_show_checkpoint(const char *path);
int fuzz_show_tokens(const char *path);
int fuzz_show_trace(const char *path);
int fuzz_show_machine(const char *path, const char *option);
void fuzz_remove_files(const char *folder);

void fuzz_remove_run(const char *path); /* the folder they used */

#endif
