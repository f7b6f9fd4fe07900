/* Buffers on a machine, elements of either type, a suite on every machine. */
#include "num/machine.h"

#include <check.h>
#include <stdlib.h>

#include "base/number.h"

const struct machine *machine;

struct guarded machine_buffer(const struct machine *m, size_t bytes)
{
    struct guarded g = guarded_new(bytes);
    if (m->alloc) {
        g.device_base = m->alloc(guarded_all(&g));
        g.device = g.device_base + ((unsigned char *)g.at - g.base);
    }
    return g;
}

void machine_put(const struct machine *m, const struct guarded *g)
{
    if (g->device_base)
        m->put(g->device_base, g->base, guarded_all(g));
}

void machine_get(const struct machine *m, const struct guarded *g)
{
    if (g->device_base)
        m->get(g->base, g->device_base, guarded_all(g));
}

void machine_free(const struct machine *m, struct guarded *g)
{
    if (g->device_base)
        m->free(g->device_base);
    guarded_free(g);
}

double element(const struct guarded *g, enum ir_dtype type, size_t i)
{
    return type == IR_BF16 ? number_from_bf16(((uint16_t *)g->at)[i]) : ((float *)g->at)[i];
}

void set_element(struct guarded *g, enum ir_dtype type, size_t i, double value)
{
    if (type == IR_BF16)
        ((uint16_t *)g->at)[i] = number_to_bf16((float)value);
    else
        ((float *)g->at)[i] = (float)value;
}

double rounded(enum ir_dtype type, double value)
{
    return type == IR_BF16 ? number_from_bf16(number_to_bf16((float)value)) : (float)value;
}

struct guarded machine_elements(size_t n, enum ir_dtype type)
{
    return machine_buffer(machine, n * ir_dtype_size(type, machine->compute));
}

struct guarded machine_random(size_t n, enum ir_dtype type, struct rng *r, double *x)
{
    struct guarded g = machine_elements(n, type);
    for (size_t i = 0; i < n; i++) {
        x[i] = rounded(type, rng_normal(r));
        set_element(&g, type, i, x[i]);
    }
    machine_put(machine, &g);
    return g;
}

/* Unchecked fixtures run in the program itself, before the tests behind them are forked off. */
static void next_machine(void)
{
    static size_t next;
    machine = machines[next++];
    if (machine->setup)
        machine->setup();
}

int run_machines(struct Suite *(*suite)(void))
{
    SRunner *runner = NULL;
    for (size_t i = 0; machines[i]; i++) {
        machine = machines[i];
        Suite *change = suite_create(machine->name);
        TCase *none = tcase_create("machine");
        tcase_add_unchecked_fixture(none, next_machine, NULL);
        suite_add_tcase(change, none);
        if (runner)
            srunner_add_suite(runner, change);
        else
            runner = srunner_create(change);
        srunner_add_suite(runner, suite());
    }
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
