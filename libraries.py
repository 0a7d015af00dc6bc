"""How the libraries in C are built: for ``setup.py`` here and in ``runtime``.

Each is plain C that ctypes loads. It knows nothing of Python or torch, so that one file serves
every version of both: ``_native.so``, in a wheel whose tag names the platform alone.
"""

import os
import runpy
from pathlib import Path

from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
SOURCES = runpy.run_path(str(ROOT / "src/leanspike_runtime/sources.py"))


class PlainLibrary(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", "/") + ".so"


class AnyPython(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


COMMANDS = {"bdist_wheel": AnyPython, "build_ext": PlainLibrary}


def library(name: str, folder: str, start: Path = ROOT) -> Extension:
    """The library ``name`` of the C in ``src/<folder>``, for a ``setup.py`` in ``start``."""
    files = [os.path.relpath(path, start) for path in SOURCES["library_files"](ROOT, folder)]
    return Extension(
        name,
        sources=[file for file in files if file.endswith(".c")],
        depends=[file for file in files if file.endswith(".h")],
        define_macros=[("LIBRARY_SOURCES", f'"{SOURCES["library_digest"](ROOT, folder)}"')],
        extra_compile_args=[
            "-std=c11",
            "-O3",
            "-ffp-contract=off",  # a fused multiply-add would flip spikes
            "-fno-math-errno",
            "-fno-trapping-math",  # lets comparisons be vectorised
            "-Wall",
            "-Wextra",
        ],
        libraries=["pthread", "m"],
        optional=os.environ.get("LEANSPIKE_NATIVE") != "required",
    )
