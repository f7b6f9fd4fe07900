/* Products and attention that tests/cuda/test_products.c and tests/gpu/peak.c call by name, those of the module. */
#include "cuda/matmul.h"
#include "cuda/sdpa.h"
#include "gpu/machine_device.h"

FORWARD(void, cuda_matmul, (const struct cuda_matmul *p), (p))
FORWARD(enum status, cuda_matmul_prepare, (const struct cuda_matmul *p, bool time, struct err *e), (p, time, e))
FORWARD(enum status, cuda__matmul_open, (const char *path, const char *device, void *stream, struct err *e),
        (path, device, stream, e))
FORWARD(void, cuda__matmul_choose, (bool choose), (choose))
FORWARD(enum status, cuda__matmul_store, (const char *path, const char *device, struct err *e), (path, device, e))
FORWARD(void, cuda__matmul_close, (void), ())
FORWARD(enum status, cuda_sdpa_prepare, (const struct cuda_sdpa_shape *s, uint64_t limit, struct err *e), (s, limit, e))
FORWARD(void, cuda_sdpa, (const struct cuda_sdpa *p), (p))
