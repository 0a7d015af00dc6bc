"""How long leanspike-runtime takes from the start of a process to its first answer.

``python benchmarks/runtime_start.py FILE.leanspike [ROUNDS]``: each round starts three processes
of this interpreter, one after the other: Python that does nothing, Python that imports NumPy, and
one that reads the file and answers one image. Prints medians with quartiles, in seconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ANSWER = """
import sys
import numpy as np
from leanspike_runtime import Engine
engine = Engine.load(sys.argv[1])
facts = engine.facts
frames = () if facts.static_input else (facts.timesteps,)
image = np.zeros((*frames, 1, facts.height, facts.width, facts.channels), np.float32)
engine(image, threads=1)
assert "torch" not in sys.modules
"""
KINDS = {"Python": "pass", "Python and NumPy": "import numpy", "the first answer": ANSWER}


def seconds(code: str, file: str) -> float:
    """Of one process."""
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "PYTHONPATH": source}
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, file], env=environment, check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    file, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(rounds):
        for name, code in KINDS.items():
            found[name].append(seconds(code, file))
    for name, times in found.items():
        low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
        print(f"{name}: {median:.3f} s ({low:.3f} to {high:.3f}, n = {rounds})")


if __name__ == "__main__":
    main()
