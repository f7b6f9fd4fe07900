/* Stands in front of the toolkit's header of the same name where the CUDA files are compiled for the host. */
#include "fake_cudart.h"
