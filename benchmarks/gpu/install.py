"""Unpack what leanspike needs and this Python lacks from a folder of wheels.

    python install.py SITE [WHEELS]

Nothing is installed into this Python: SITE is put on its path. torch is taken as it is, whatever
its version. Needs pip, and nothing that is not in Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
LEFT_OUT = ("torch", "typer")  # torch is there; typer is for the command line only
IF_THERE = "pillow"  # for pictures of CIFAR-10


def requirements() -> list[str]:
    """What leanspike asks for in `pyproject.toml`."""
    listed = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    return [line for line in listed if not line.startswith(LEFT_OUT)]


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One call of this Python's pip, which looks nowhere but in the folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index"]
    command += ["--disable-pip-version-check", "--root-user-action=ignore", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def lacking(wanted: list[str], wheels: list[str]) -> tuple[list[str], str]:
    """The wheels to unpack, with what they need in their turn; or what pip says."""
    done = pip("--dry-run", "--report", "-", *wheels, *wanted)
    if done.returncode:
        return [], done.stderr.strip()
    report = json.loads(done.stdout)
    return [item["download_info"]["url"] for item in report["install"]], ""


def main(site: str, folder: str = "") -> None:
    """Unpack them, and say what was unpacked."""
    if find_spec("torch") is None:
        sys.exit(f"{sys.executable} has no torch; set PYTHON to one that has")
    version = ".".join(map(str, sys.version_info[:2]))
    wheels = ["--find-links", str(Path(folder).resolve())] if folder else []
    urls, problem = lacking(requirements(), wheels)
    if problem:
        sys.exit(
            f"{problem}\nthis Python {version} lacks what leanspike needs; make wheels for it: "
            f"python -m benchmarks.gpu.prepare FOLDER --python {version}, then give "
            "--wheels FOLDER/wheels"
        )
    if find_spec("PIL") is None:
        urls += lacking([IF_THERE], wheels)[0]
    if urls:
        done = pip("--no-deps", "--target", site, *urls)
        if done.returncode:
            sys.exit(done.stderr)
    own = tomllib.loads(PROJECT.read_text())["project"]
    about = Path(site, f"{own['name']}-{own['version']}.dist-info")
    about.mkdir()
    lines = ("Metadata-Version: 2.1", f"Name: {own['name']}", f"Version: {own['version']}")
    Path(about, "METADATA").write_text("\n".join(lines) + "\n")
    names = ", ".join(url.rpartition("/")[2] for url in urls) or "nothing"
    print(f"unpacked for Python {version}: {names}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
