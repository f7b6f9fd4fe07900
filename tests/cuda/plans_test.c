/* Real cuDNN, no device: plans of attention for an H100 and an A100 are built from properties alone, and have to fit into what
 * ir/target_cuda.c plans. Every multiple of 8 is a head size that it takes; but the A100's backward ends at 128, and there our own
 * kernel has to take over, with a note. Nothing runs. Started by plans.sh, which stands in for the driver. Prints TAP. */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "exec/compute.h"
#include "cuda/cuda.h"
#include "cuda/libs_private.h"
#include "cuda/sdpa.h"
#include "ir/target.h"

/* As cuDNN writes them itself. */
static const char *const devices[][2] = {
    { "H100",
      "{\"cudnnVersion\":91900,\"deviceName\":\"NVIDIA H100 80GB HBM3\",\"cudaDeviceId\":0,\"regsPerBlock\":65536,"
      "\"multiProcessorCount\":132,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
      "\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":232448,"
      "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
      "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":9008,\"isTccDriver\":0,"
      "\"supportCoopLaunch\":1,\"totalGlobalMem\":85017624576,\"smClockRateKHz\":1980000,"
      "\"memClockRateKHz\":2619000,\"l2CacheSize\":52428800,\"deviceVer\":900,\"driverVer\":13000}" },
    { "A100",
      "{\"cudnnVersion\":91900,\"deviceName\":\"NVIDIA A100-SXM4-80GB\",\"cudaDeviceId\":0,\"regsPerBlock\":65536,"
      "\"multiProcessorCount\":108,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
      "\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":166912,"
      "\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,\"maxCtasPerSM\":32,"
      "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"pciDeviceId\":8370,\"isTccDriver\":0,"
      "\"supportCoopLaunch\":1,\"totalGlobalMem\":85094170624,\"smClockRateKHz\":1410000,"
      "\"memClockRateKHz\":1593000,\"l2CacheSize\":41943040,\"deviceVer\":800,\"driverVer\":13000}" },
};

static const struct {
    uint32_t b, t, heads, kv_heads, d, flags;
} sizes[] = {
    { 64, 1024, 12, 12, 64, IR_PACKED }, /* GPT-2 124M */
    { 8, 1024, 25, 25, 64, IR_PACKED },  /* 1.5B */
    { 2, 4096, 32, 8, 128, 0 },          /* slices by heads */
    { 3, 1000, 12, 4, 64, IR_PACKED },   { 2, 333, 6, 2, 128, 0 }, { 1, 1, 4, 1, 64, 0 },
    { 2, 512, 4, 4, 8, IR_PACKED },      { 2, 512, 4, 2, 16, 0 },  { 2, 500, 4, 4, 32, IR_PACKED },
    { 2, 500, 32, 32, 80, IR_PACKED },   { 2, 512, 8, 2, 96, 0 },  { 2, 512, 4, 4, 112, 0 },
    { 2, 512, 4, 4, 136, IR_PACKED },    { 2, 512, 4, 2, 160, 0 }, { 2, 500, 4, 4, 192, IR_PACKED },
    { 1, 2048, 8, 4, 256, 0 }, /* Gemma 2 */
};

static void one(int *n, const char *device, size_t i, enum ir_pass pass)
{
    const struct ir_attrs attrs = { .heads = sizes[i].heads,
                                    .kv_heads = sizes[i].kv_heads,
                                    .head_dim = sizes[i].d,
                                    .flags = sizes[i].flags,
                                    .scale = 0.125f };
    const struct op_args a = { .attrs = &attrs, .b = sizes[i].b, .t = sizes[i].t, .ep = 1, .compute = IR_BF16 };
    struct err e = { 0 };
    cuda__attention_close(); /* the notes */
    const enum status st = cuda__attention_prepare(&a, pass, &e);
    const bool ours = cuda__attention_notes()[0] != '\0';
    const bool right = st == ST_OK &&
                       ours == (strcmp(device, "A100") == 0 && pass == IR_PASS_BI && attrs.head_dim > 128);
    printf("%sok %d - %s, %s: %u sequences of %u, heads %u/%u of %u%s%s%s\n", right ? "" : "not ", ++*n, device,
           ir_pass_name(pass), a.b, a.t, attrs.heads, attrs.kv_heads, attrs.head_dim, ours ? ", not by cuDNN" : "",
           e.text[0] ? " # " : "", e.text);
    if (ours)
        printf("# %s", cuda__attention_notes());
    fflush(stdout);
}

int main(void)
{
    int n = 0;
    printf("# cuDNN %llu\n", (unsigned long long)cuda__sdpa_version());
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        struct err e = { 0 };
        if (cuda__sdpa_open(devices[d][1], &e) != ST_OK)
            printf("not ok %d - %s: %s\n", ++n, devices[d][0], e.text);
        else
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                one(&n, devices[d][0], i, IR_PASS_F);
                one(&n, devices[d][0], i, IR_PASS_BI);
            }
        cuda__sdpa_close();
    }
    printf("1..%d\n", n);
    return 0;
}

/* What attention.c calls beside cuDNN; nothing of it runs here. */
void cuda_attention_f32_f(const struct op_args *a)
{
    (void)a;
}

void cuda_attention_f32_bi(const struct op_args *a)
{
    (void)a;
}

void cuda_attention_tiles_f(const struct op_args *a)
{
    (void)a;
}

void cuda_attention_tiles_bi(const struct op_args *a)
{
    (void)a;
}

void cuda__failed(const char *call, const char *words)
{
    process_fail(ST_DEVICE, words ? words : call);
}
