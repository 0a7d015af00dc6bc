"""The native kernels, an optional extension; everything else is in pyproject.toml.

Without a C compiler the installation succeeds all the same, and the reference kernel serves.
"""

from setuptools import Extension, setup

setup(
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
    ]
)
