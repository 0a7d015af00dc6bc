"""The distribution leanspike-runtime: the package and the library that lie in ``../src``.

It is built in a checkout: ``python -m build --wheel runtime``. Without its library it is of no use,
so a C compiler is required.
"""

import os
import runpy
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
os.chdir(HERE)  # paths below are from here
BUILD = runpy.run_path(str(HERE.parent / "libraries.py"))

engine = BUILD["library"]("leanspike_runtime._engine", "engine", HERE)
engine.optional = False

setup(
    packages=["leanspike_runtime"],
    package_dir={"": "../src"},
    package_data={"leanspike_runtime": ["py.typed"]},
    cmdclass=BUILD["COMMANDS"],
    ext_modules=[engine],
)
