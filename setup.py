"""The native kernel, an optional extension; everything else is in pyproject.toml.

Without a C compiler the installation succeeds all the same, and the reference kernel serves.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "leanspike.neuron.kernels._native",
            sources=["src/native/lif.c"],
            depends=["src/native/lif.h", "src/native/lif_block.h"],
            extra_compile_args=[
                "-std=c11",
                "-O3",
                "-ffp-contract=off",  # a fused multiply-add would flip spikes
                "-fno-math-errno",
                "-fno-trapping-math",  # lets comparisons be vectorised
                "-fopenmp-simd",  # vectorised sums; no OpenMP at run time
                "-Wall",
                "-Wextra",
            ],
            libraries=["pthread"],
            optional=True,
        )
    ]
)
