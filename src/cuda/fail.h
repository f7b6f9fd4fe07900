/* Private to src/cuda: leaving, from a place that cannot return an error. */
#ifndef PIPER_CUDA_FAIL_H
#define PIPER_CUDA_FAIL_H

/* By the process's failure door, with the plan's instruction, the call and a library's words for what is wrong. */
_Noreturn void cuda__failed(const char *call, const char *words);

#endif
