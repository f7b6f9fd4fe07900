/* The tests of operators, updates and parts on the device of a module. */
#ifndef PIPER_TESTS_MACHINE_DEVICE_H
#define PIPER_TESTS_MACHINE_DEVICE_H

/* A function of the module that is not in its tables; ends the test when there is none. */
void *device_function(const char *name);

#endif
