/* piper: the table of subcommands. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/version.h"
#include "base/words.h"
#include "cmd/command.h"
#include "comm/world.h"
#include "exec/module.h"

static const struct command *const commands[] = {
    &command_build, &command_plan,  &command_train,      &command_halt,     &command_calibrate,
    &command_data,  &command_trace, &command_checkpoint, &command_generate, &command_eval,
    &command_watch, &command_plot,  &command_report,     &command_info,     &command_tune,
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_help(void)
{
    printf("usage: piper COMMAND [OPTIONS] [ARGUMENTS]\n\nTrains transformer models on MPI ranks by a declared "
           "strategy.\n\nCommands:\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
    printf("\n`piper COMMAND --help` lists the options of a command; the manual is piper(1), to begin with "
           "piper-tutorial(7).\n`piper help WORD` also knows words of Megatron-LM, DeepSpeed, TorchTitan and "
           "transformers.\n");
}

static enum status find(const char *name, const struct command **out, struct err *e)
{
    const char *words[N_COMMANDS + 1] = { NULL };
    for (size_t i = 0; i < N_COMMANDS; i++) {
        words[i] = commands[i]->name;
        if (strcmp(name, words[i]) == 0) {
            *out = commands[i];
            return ST_OK;
        }
    }
    char hint[WORDS_HINT];
    return err_set(e, ST_USAGE, NULL, "unknown command \"%s\"%s (`piper --help` lists the commands)", name,
                   words_hint(name, words, hint));
}

/* Pages that are about no command. */
static const struct topic {
    const char *name, *page, *about;
} topics[] = {
    { "tutorial", "piper-tutorial(7)", "from a first strategy to a published model, step by step" },
    { "model", "piper-model(5)", "model.json: a Hugging Face config.json, or a graph" },
    { "strategy", "piper-strategy(5)", "strategy.json: the directives" },
    { "zoo", "piper-zoo(7)", "published strategies as directives" },
    { "train-config", "piper-train-config(5)", "train.json: training settings" },
    { "tokens", "piper-tokens(5)", "token files" },
    { "job", "piper-job(5)", "job files" },
    { "machine", "piper-machine(5)", "machine files and data sheets" },
};

/* A command's options, where a topic's manual is, or what a word of another program is called here. */
static enum status help(const char *word, struct err *e)
{
    const struct command *c = NULL;
    struct err unknown = { 0 };
    char here[WORDS_HINT];
    if (find(word, &c, &unknown) == ST_OK)
        return c->run(2, (char *[]){ (char *)(uintptr_t)c->name, (char[]){ "--help" }, NULL }, e);
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        if (strcmp(word, topics[i].name) == 0) {
            const int n = (int)strcspn(topics[i].page, "(");
            printf("%s: %s; man %.*s\n", topics[i].page, topics[i].about, n, topics[i].page);
            return ST_OK;
        }
    if (words_here(word, here)) {
        printf("%s: %s\n", word, here);
        return ST_OK;
    }
    return err_set(e, unknown.status, NULL, "%s", unknown.text);
}

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

static enum status run(int argc, char **argv, struct err *e)
{
    if (argc < 2)
        return err_set(e, ST_USAGE, NULL, "missing command; `piper --help` lists the commands");
    const char *word = argv[1];
    const struct command *c = NULL;
    if (is_one_of(word, (const char *[]){ "--version", "-V", "version", NULL })) {
        printf("piper %s (%s)\noptional: %s\n", piper_version, piper_commit, piper_optional);
        return ST_OK;
    }
    if (strcmp(word, "help") == 0 && argc > 2)
        return help(argv[2], e);
    if (is_one_of(word, (const char *[]){ "--help", "-h", "help", NULL })) {
        print_help();
        return ST_OK;
    }
    TRY(find(word, &c, e));
    return c->run(argc - 1, argv + 1, e);
}

int main(int argc, char **argv)
{
    static struct err e;
    module_environment();
    enum status st = run(argc, argv, &e);
    if (st == ST_OK && (fflush(stdout) != 0 || ferror(stdout)))
        st = err_set(&e, ST_IO, "standard output", "write failed");
    if (st != ST_OK && world_rank() == 0) /* before the launcher may think that this rank has ended */
        last_words(e.text);
    world_finalize();
    return -st;
}
