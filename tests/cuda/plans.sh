#!/bin/sh
# Plans of real cuDNN for devices that are not there: tests/cuda/plans_test.c. cuDNN loads its kernels with the driver, so where
# there is none a library of that name says yes to loading and "no device" to everything else.
program=${top_builddir:-.}/tests/cuda/plans_test
if [ ! -x "$program" ]; then
    echo "1..0 # SKIP configured without --with-cuda, so there is no cuDNN to ask"
    exit 0
fi
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cat >"$dir/driver.c" <<'EOS'
#define YES(name) int name(void); int name(void) { return 0; }
#define YES_HANDLE(name) int name(void **p); int name(void **p) { static int x; *p = &x; return 0; }
#define YES_NUMBER(name, n) int name(int *p); int name(int *p) { *p = n; return 0; }
#define NO(name) int name(void); int name(void) { return 100; }
YES_HANDLE(cuLibraryLoadData) YES_HANDLE(cuLibraryGetKernel) YES_HANDLE(cuLibraryGetModule)
YES_HANDLE(cuKernelGetFunction) YES_HANDLE(cuModuleLoadData) YES_HANDLE(cuModuleLoadDataEx) YES_HANDLE(cuModuleGetFunction)
YES(cuFuncSetAttribute) YES(cuKernelSetAttribute) YES(cuLibraryUnload) YES(cuModuleUnload) YES(cuFuncLoad)
YES_NUMBER(cuFuncGetAttribute, 0) YES_NUMBER(cuKernelGetAttribute, 0)
YES_NUMBER(cuOccupancyMaxActiveBlocksPerMultiprocessor, 1) YES_NUMBER(cuOccupancyMaxActiveClusters, 64)
#include "no.h"
EOS
# every other function that a library of cuDNN or the runtime may look for
built=$(sed -n 's/^#define CUDA_LIBDIR "\(.*\)"/\1/p' "${top_builddir:-.}/build-config.h")
lib=$(echo "${LD_LIBRARY_PATH-}:$built" | tr : '\n' | while read -r folder; do
    [ ! -e "$folder/libcudnn_graph.so.9" ] || { echo "$folder"; break; }
done)
for f in "$lib"/libcudnn_engines_runtime_compiled.so.? "$lib"/libcudnn_graph.so.?; do
    grep -aoE 'cu[A-Z][A-Za-z0-9]{3,60}(_v[0-9]+|_ptsz)?' "$f"
done | sort -u | grep -E '^cu(Init|Device|Driver|Ctx|Func|Launch|Library|Kernel|Module|Occupancy|Mem|Stream|Event|Tensor|Get|Pointer|Graph|Link|Array)' |
    grep -vE '^(cuLibrary(LoadData|GetKernel|GetModule|Unload)|cuKernel(GetFunction|[GS]etAttribute)|cuModule(LoadData|LoadDataEx|GetFunction|Unload)|cuFunc([GS]etAttribute|Load)|cuOccupancyMaxActive(BlocksPerMultiprocessor|Clusters))$' |
    sed 's/.*/NO(&)/' >"$dir/no.h"
if ! ${CC:-cc} -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$dir/libcuda.so.1" "$dir/driver.c"; then
    echo "Bail out! the stand-in of the driver does not compile"
    exit 1
fi
LD_LIBRARY_PATH=$dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} timeout 500 "$program"
