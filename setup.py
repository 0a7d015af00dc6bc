"""The native kernels, an optional library; everything else is in pyproject.toml.

Without a C compiler the installation succeeds all the same, and the reference kernel serves.

The library is plain C that ctypes loads. It knows nothing of Python or torch, so that one file
serves every version of both: ``_native.so``, in a wheel whose tag names the platform alone.
"""

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class PlainLibrary(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"


class AnyPython(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    cmdclass={"bdist_wheel": AnyPython, "build_ext": PlainLibrary},
    ext_modules=[
        Extension(
            "leanspike._native",
            sources=[f"src/native/{name}.c" for name in ("convolution", "lif", "native")],
            depends=[
                f"src/native/{name}.h"
                for name in ("convolution", "convolution_block", "lif", "lif_block", "native")
            ],
            extra_compile_args=[
                "-std=c11",
                "-O3",
                "-ffp-contract=off",  # a fused multiply-add would flip spikes
                "-fno-math-errno",
                "-fno-trapping-math",  # lets comparisons be vectorised
                "-Wall",
                "-Wextra",
            ],
            libraries=["pthread"],
            optional=True,
        )
    ],
)
