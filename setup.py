"""The libraries in C, which are optional; everything else is in pyproject.toml.

Without a C compiler the installation succeeds all the same, and the reference kernel serves.
With LEANSPIKE_NATIVE=required it fails instead, as `make test` wants it.
"""

import runpy
from pathlib import Path

from setuptools import setup

BUILD = runpy.run_path(str(Path(__file__).with_name("libraries.py")))

setup(
    cmdclass=BUILD["COMMANDS"],
    ext_modules=[
        BUILD["library"]("leanspike._native", "native"),
        BUILD["library"]("leanspike_runtime._engine", "engine"),
    ],
)
