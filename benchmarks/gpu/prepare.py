"""Make the folder that goes with the project to a machine with a GPU and without internet.

    python -m benchmarks.gpu.prepare FOLDER [--python 3.12 ...] [--data CIFAR10] [--part-mib 50]

FOLDER/wheels gets the wheels that leanspike needs, for each of those Pythons on Linux x86-64, and a
file with the commit; FOLDER/part1, FOLDER/part2, ... get CIFAR-10, none larger than --part-mib.
Pillow (7 MiB), which reads CIFAR-10 where it travels as pictures, is left out with --no-pillow.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.install import IF_THERE, PROJECT, requirements

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
ENDINGS = (".bin", ".webp", ".png")
MIB = 2**20


def download(folder: Path, version: str, more: list[str]) -> None:
    """The wheels for one version of Python, with all that they need; numpy comes with torch."""
    wanted = [line for line in requirements() if not line.startswith("numpy")]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    command += ["--python-version", version, "--implementation", "cp", "--dest", str(folder)]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    subprocess.run([*command, *wanted, *more], check=True)


def write_commit(folder: Path) -> None:
    """What git says of this checkout, as machines without git cannot."""
    git = ["git", "-C", str(PROJECT.parent)]
    ask = [[*git, "rev-parse", "HEAD"], [*git, "status", "--porcelain", "--untracked-files=no"]]
    head, changed = (subprocess.run(q, capture_output=True, text=True).stdout.strip() for q in ask)
    if head:
        (folder / "COMMIT").write_text(head + ("-dirty" if changed else "") + "\n")


def batches(source: Path) -> list[list[Path]]:
    """The files of each batch: its records, or its picture and its labels."""
    found = []
    for name in BATCHES:
        files = [path for end in ENDINGS for path in sorted(source.rglob(name + end))][:1]
        if not files:
            sys.exit(f"no {name}.bin or {name}.webp in {source}; CIFAR-10 has six batches")
        labels = files[0].with_suffix(".labels")
        found.append([*files, *([labels] if files[0].suffix != ".bin" else [])])
    return found


def split(source: Path, folder: Path, most: int) -> int:
    """Copy CIFAR-10 into parts of so many bytes at most; returns their number."""
    number, held = 0, most + 1
    for files in batches(source):
        size = sum(path.stat().st_size for path in files)
        if held + size > most:
            number, held = number + 1, 0
        part = folder / f"part{number}"
        part.mkdir(parents=True, exist_ok=True)
        for path in files:
            shutil.copy(path, part)
        held += size
    return number


def main() -> None:
    """Make it, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", nargs="+", default=["3.12"], metavar="VERSION")
    parser.add_argument("--data", type=Path, help="a folder that holds CIFAR-10")
    parser.add_argument("--part-mib", type=float, default=50.0, help="of data, at most (50)")
    parser.add_argument("--no-pillow", action="store_true", help="it is there, or not needed")
    given = parser.parse_args()
    wheels = given.folder / "wheels"
    for version in given.python:
        download(wheels, version, [] if given.no_pillow else [IF_THERE])
    write_commit(wheels)
    if given.data is not None:
        split(given.data, given.folder, int(given.part_mib * MIB))
    for made in sorted(given.folder.iterdir()):
        size = sum(path.stat().st_size for path in made.rglob("*"))
        print(f"{made}: {size / MIB:.1f} MiB")


if __name__ == "__main__":
    main()
