# Piper for Spack 1.0 or later, from the archive piper-0.1.tar.xz that `make dist` writes. In the directory of the archive:
#
#     spack repo add TREE/jobscripts/site/spack_repo/piper
#     spack install --no-checksum piper                     with GPUs: piper +cuda cuda_arch=90
#     spack load piper && piper info
#
# Its MPI is the one that packages.yaml prefers: make that the site's own, as for any MPI program.
import os

from spack_repo.builtin.build_systems.autotools import AutotoolsPackage
from spack_repo.builtin.build_systems.cuda import CudaPackage

from spack.package import *


class Piper(AutotoolsPackage, CudaPackage):
    """Trains transformer language models on MPI ranks. A strategy, a short list of directives, says how model, data and
    optimizer are distributed; the schedule is proved free of deadlocks and its memory computed to the byte before it runs."""

    homepage = "https://arxiv.org/abs/2606.11169"
    url = f"file://{os.getcwd()}/piper-0.1.tar.xz"

    license("BSD-3-Clause")

    version("0.1")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")

    depends_on("mpi@3:")
    depends_on("hdf5+mpi")
    depends_on("openblas")
    depends_on("jansson@2.7:")
    depends_on("pcre2")
    depends_on("zlib-api")
    depends_on("zstd")
    depends_on("otf2@3:")
    depends_on("check@0.11:", type="test")

    with when("+cuda"):
        depends_on("cuda@12.5:")
        depends_on("cudnn@9.8:")
        depends_on("nccl@2.18:")
        for arch in CudaPackage.cuda_arch_values:
            depends_on(f"nccl cuda_arch={arch}", when=f"cuda_arch={arch}")
        conflicts("cuda_arch=none", msg="piper +cuda requires the architectures to compile for, e.g. cuda_arch=80,90")

    sanity_check_is_file = ["bin/piper", "share/man/man1/piper.1", "share/piper/jobscripts/piper.slurm"]

    def flag_handler(self, name, flags):
        # as flags of the compiler wrapper: in CFLAGS they would take the place of configure's own, which optimise kernels further
        return (flags, None, None)

    def configure_args(self):
        spec = self.spec
        args = [
            f"MPICC={spec['mpi'].mpicc}",
            f"--with-hdf5={spec['hdf5'].prefix}",
            f"--with-openblas={spec['openblas'].prefix}",
            f"--with-jansson={spec['jansson'].prefix}",
        ]
        if not self.run_tests:
            args.append("--without-check")
        if spec.satisfies("+cuda"):
            args.append(f"--with-cuda={spec['cuda'].prefix}")
            args.append(f"CUDA_ARCHS={' '.join(spec.variants['cuda_arch'].value)}")
        return args

    def setup_run_environment(self, env: EnvironmentModifications) -> None:
        # they are loaded when a job needs them
        if self.spec.satisfies("+cuda"):
            for name in ("cudnn", "nccl"):
                for directory in self.spec[name].libs.directories:
                    env.prepend_path("LD_LIBRARY_PATH", directory)

    def test_info(self):
        """what this build supports here"""
        piper = which(self.prefix.bin.piper, required=True)
        out = piper("info", output=str.split, error=str.split)
        check_outputs([rf"piper +{self.spec.version}", "cpu +available"], out)
