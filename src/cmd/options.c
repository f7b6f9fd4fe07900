#include "cmd/options.h"

#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "base/words.h"

static void print_help(const struct option_usage *u)
{
    printf("usage: piper %s%s%s\n\n%s\n", u->command, *u->synopsis ? " " : "", u->synopsis, u->about);
    if (u->options->name)
        printf("\nOptions:\n");
    for (const struct option *o = u->options; o->name; o++) {
        char left[80];
        int n = o->letter ? snprintf(left, sizeof left, "-%c, --%s", o->letter, o->name)
                          : snprintf(left, sizeof left, "    --%s", o->name);
        if (o->value && n > 0 && (size_t)n < sizeof left)
            snprintf(left + n, sizeof left - (size_t)n, o->kind == OPTION_MAYBE ? "[=%s]" : " %s", o->value);
        printf("  %-28s %s\n", left, o->help);
    }
    printf("\nThe manual: man piper-%s\n", u->command);
}

static enum status wrong(const struct option_usage *u, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static enum status wrong(const struct option_usage *u, struct err *e, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(e, ST_USAGE, NULL, "%s: %s (see `piper %s --help`)", u->command, text, u->command);
}

static const struct option *find(const struct option_usage *u, const char *name, size_t n)
{
    for (const struct option *o = u->options; o->name; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

static const struct option *find_letter(const struct option_usage *u, char letter)
{
    for (const struct option *o = u->options; o->name; o++)
        if (o->letter == letter)
            return o;
    return NULL;
}

static enum status unknown(const struct option_usage *u, const char *word, size_t n, struct err *e)
{
    const char *words[64];
    uint32_t count = 0;
    for (const struct option *o = u->options; o->name && count < 62; o++)
        words[count++] = o->name;
    words[count++] = "help";
    words[count] = NULL;
    char text[128];
    snprintf(text, sizeof text, "%.*s", (int)(n < 100 ? n : 100), word);
    char here[WORDS_HINT];
    const char *meant = words_meant(text, words);
    if (words_elsewhere(text, words, here))
        return wrong(u, e, "unknown option --%s; here it is no option: %s", text, here);
    return meant ? wrong(u, e, "unknown option --%s; did you mean --%s?", text, meant)
                 : wrong(u, e, "unknown option --%s", text);
}

static enum status take(const struct option_usage *u, const struct option *o, const char *value, void *into,
                        struct err *e)
{
    void *to = (char *)into + o->at;
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)to = true;
        return ST_OK;
    case OPTION_TEXT:
        *(const char **)to = value;
        return ST_OK;
    case OPTION_LIST:
        vec_add((struct option_list *)to, value);
        return ST_OK;
    case OPTION_NUMBER:
        if (!parse_number(value, (uint64_t *)to) || *(uint64_t *)to < o->least)
            return wrong(u, e, "--%s: found \"%s\", expected an integer >= %llu", o->name, value,
                         (unsigned long long)o->least);
        return ST_OK;
    case OPTION_MAYBE:
        *(const char **)to = "";
        if (!value)
            return ST_OK;
        break;
    case OPTION_CHOICE:
        break;
    }
    for (const char *const *w = o->words; *w; w++)
        if (strcmp(*w, value) == 0) {
            *(const char **)to = value;
            return ST_OK;
        }
    char known[256], hint[WORDS_HINT];
    return wrong(u, e, "--%s: found \"%s\", expected %s%s", o->name, value, words_list(o->words, known, sizeof known),
                 words_hint(value, o->words, hint));
}

/* One option at argv[*i]; moves *i on when the value is the next word. */
static enum status take_option(const struct option_usage *u, int argc, char **argv, int *i, void *into, struct err *e)
{
    const char *word = argv[*i], *value = NULL;
    const struct option *o;
    if (word[1] == '-') {
        const char *name = word + 2;
        size_t n = strcspn(name, "=");
        o = find(u, name, n);
        if (!o)
            return unknown(u, name, n, e);
        if (name[n] == '=')
            value = name + n + 1;
        if (value && o->kind == OPTION_FLAG)
            return wrong(u, e, "--%s takes no value", o->name);
    } else {
        o = find_letter(u, word[1]);
        if (!o)
            return wrong(u, e, "unknown option -%c", word[1]);
        if (word[2])
            value = word + 2;
        if (value && o->kind == OPTION_FLAG)
            return wrong(u, e, "-%c takes no value", o->letter);
    }
    if (!value && o->kind != OPTION_FLAG && o->kind != OPTION_MAYBE) {
        if (*i + 1 >= argc)
            return wrong(u, e, "--%s requires a value (%s)", o->name, o->value);
        value = argv[++*i];
    }
    return take(u, o, value, into, e);
}

enum status options_parse(const struct option_usage *u, int argc, char **argv, void *into, struct err *e)
{
    struct option_common *common = into;
    struct option_list *operands = &common->operands;
    bool only_operands = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (only_operands || word[0] != '-' || !word[1]) {
            vec_add(operands, word);
        } else if (strcmp(word, "--") == 0) {
            only_operands = true;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(u);
            common->help = true;
            return ST_OK;
        } else {
            TRY(take_option(u, argc, argv, &i, into, e));
        }
    }
    if (operands->n < u->min_operands || operands->n > u->max_operands)
        return err_set(e, ST_USAGE, NULL, "%s: found %u operands; usage: piper %s%s%s", u->command, operands->n,
                       u->command, *u->synopsis ? " " : "", u->synopsis);
    return ST_OK;
}
