/* The tests of operators, updates and parts on the device of a module. */
#ifndef PIPER_TESTS_MACHINE_DEVICE_H
#define PIPER_TESTS_MACHINE_DEVICE_H

#include <string.h>

/* A function of the module that is not in its tables; ends the test when there is none. */
void *device_function(const char *name);

/* Defines a function that calls the module's of that name. POSIX: dlsym() gives functions as objects' pointers. */
#define FORWARD(type, name, parameters, arguments) \
    type name parameters                           \
    {                                              \
        type(*f) parameters;                       \
        void *address = device_function(#name);    \
        memcpy(&f, &address, sizeof f);            \
        return f arguments;                        \
    }

#endif
