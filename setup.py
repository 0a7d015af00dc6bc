"""The native kernels, an optional library; everything else is in pyproject.toml.

Without a C compiler the installation succeeds all the same, and the reference kernel serves.
With LEANSPIKE_NATIVE=required it fails instead, as `make test` wants it.

The library is plain C that ctypes loads. It knows nothing of Python or torch, so that one file
serves every version of both: ``_native.so``, in a wheel whose tag names the platform alone.
"""

import os
import runpy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext


class PlainLibrary(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"


class AnyPython(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


ROOT = Path(__file__).parent
SOURCES = runpy.run_path(str(ROOT / "src/leanspike/native_sources.py"))
FILES = [str(path.relative_to(ROOT)) for path in SOURCES["native_files"](ROOT)]

setup(
    cmdclass={"bdist_wheel": AnyPython, "build_ext": PlainLibrary},
    ext_modules=[
        Extension(
            "leanspike._native",
            sources=[name for name in FILES if name.endswith(".c")],
            depends=[name for name in FILES if name.endswith(".h")],
            define_macros=[("NATIVE_SOURCES", f'"{SOURCES["native_digest"](ROOT)}"')],
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
            optional=os.environ.get("LEANSPIKE_NATIVE") != "required",
        )
    ],
)
