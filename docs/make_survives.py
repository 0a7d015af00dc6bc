"""Write docs/survives.md: which networks reach which reader of NIR, and with how many spikes.

    python docs/make_survives.py [PYTHON]

PYTHON is that of an environment with nir 1.0.4, sinabs 3.1.3 and rockpool 3.1.0; without it the
cells of sinabs and Xylo stay as they are on the page.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from leanspike import LeanspikeError, SpikingNetwork, to_nir  # noqa: E402
from leanspike.export import TARGETS, prove, write_nir  # noqa: E402
from leanspike.export.readers import READERS  # noqa: E402
from portable_networks import NEURONS, T, images, portable_network  # noqa: E402

HEAD = """# What survives where

Which networks reach which reader of NIR. `python docs/make_survives.py` made this page, with
{versions}. A cell holds the share of spikes that the target's own reader computes otherwise: 0 is
none, of {spikes} or more in each cell. Numbers lie on a grid, so that nothing is rounded. What is
refused can be written with `--approximate`; the cell says what that costs. *Written* means: by the
target's documented rules, not read back, since its reader is not on PyPI or needs a chip. There an
approximation's cost is computed by leanspike, *by its rules*.

"""
CASES = {
    "soft reset": ("pooled", "soft"),
    "soft reset, leak": ("dense", "soft leaky"),
    "soft reset, floor 1": ("pooled", "floor"),
    "hard reset": ("pooled", "hard"),
    "hard reset, leak": ("dense", "hard leaky"),
    "spikes as high as the threshold": ("pooled", "high"),
    "a threshold for each channel": ("pooled", "channels"),
    "a leak of the synapse, soft": ("dense", "current"),
    "a leak of the synapse, hard": ("dense", "hard current"),
    "identity shortcut, soft": ("skip", "soft"),
    "identity shortcut, hard": ("skip", "hard"),
    "two branches, soft": ("parallel", "soft"),
    "two branches, hard": ("parallel", "hard"),
}
PAGE = ROOT / "docs" / "survives.md"
ELSEWHERE = {
    "sinabs": ROOT / "tests" / "export" / "sinabs_reader.py",
    "xylo": ROOT / "tests" / "export" / "rockpool_reader.py",
}
"""What reads in an environment of its own."""


def table(python: Path | None = None) -> dict[str, dict[str, str]]:
    """The cells, by case and target."""
    return {
        case: {target: cell(target, *network, python) for target in TARGETS}
        for case, network in CASES.items()
    }


def cell(target: str, name: str, neuron: str, python: Path | None = None) -> str:
    """What becomes of one network at one target."""
    snn = portable_network(name, neuron)
    try:
        graph = to_nir(snn, target)
        refused = False
    except LeanspikeError:
        refused = True
        try:
            graph = to_nir(snn, target, approximate=True)
        except LeanspikeError:
            return "refused"
    with tempfile.TemporaryDirectory() as folder:
        path = write_nir(graph, Path(folder) / "net.nir", target)
        if target in ELSEWHERE and python is not None:
            found = _share(*elsewhere(target, snn, path, name, python))
        elif target in READERS or refused:
            by_rules = target not in READERS
            share = prove(snn, path, target, [(images(name), None)], by_rules=by_rules)
            found = _share(share.mismatches, sum(sum(layer.spikes) for layer in share.layers))
            found += " by its rules" if by_rules else ""
        else:
            return "written"
    return f"refused, else {found}" if refused else found


def elsewhere(
    target: str, snn: SpikingNetwork, path: Path, name: str, python: Path
) -> tuple[int, int]:
    """Mismatching spikes and spikes, by a reader in its own environment, at most one a step."""
    ours: dict[str, np.ndarray] = {}
    for layer, module in snn.neurons():
        module.register_forward_hook(
            lambda _, __, o, layer=layer: ours.__setitem__(layer, o.detach().numpy() != 0)
        )
    x, folder = images(name), path.parent
    snn(x)
    np.savez(folder / "x.npz", x=x.numpy(), steps=T, layers=list(ours))
    command = [python, ELSEWHERE[target], path, folder / "x.npz", folder / "out.npz", "single"]
    subprocess.run(command, check=True)
    with np.load(folder / "out.npz") as theirs:
        wrong = sum(int(((theirs[f"spikes {k}"] != 0) != o).sum()) for k, o in ours.items())
    return wrong, sum(int(o.sum()) for o in ours.values())


def _share(mismatches: int, spikes: int) -> str:
    return "0" if mismatches == 0 else f"{100 * mismatches / spikes:.1f} %"


def page(cells: dict[str, dict[str, str]]) -> str:
    """The page of the documentation."""
    titles = [target.title for target in TARGETS.values()]
    lines = [f"| network | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
    lines += [f"| {case} | {' | '.join(row.values())} |" for case, row in cells.items()]
    readers = [
        f"- {t.title} {t.version}: `{t.reading}`" if t.version else f"- {t.title}: `{t.reading}`"
        for t in TARGETS.values()
    ]
    spikes = min(count(*network) for network in CASES.values())
    head = HEAD.format(versions=", ".join(versions()), spikes=f"{spikes:,}")
    return "\n".join([head + "\n".join(lines), "", "How each reads:", "", *readers, ""])


def versions() -> list[str]:
    """Of those that read here."""
    return [f"{package} {version(package)}" for package in ("nir", "nirtorch", *READERS)]


def count(name: str, neuron: str) -> int:
    """How many spikes a network has on the images."""
    snn, spikes = portable_network(name, neuron), []
    for _, module in snn.neurons():
        module.register_forward_hook(lambda _, __, o: spikes.append(int((o != 0).sum())))
    snn(images(name))
    return sum(spikes)


def of_before(cells: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The cells, with those of readers elsewhere as the page has them."""
    if not PAGE.is_file():
        return cells
    rows = [line.split("|")[1:-1] for line in PAGE.read_text("utf-8").splitlines() if "|" in line]
    known = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    columns = {target: list(TARGETS).index(target) for target in ELSEWHERE}
    return {
        case: {**row, **{target: known[case][column] for target, column in columns.items()}}
        for case, row in cells.items()
    }


def main(arguments: list[str]) -> None:
    """Write the page."""
    assert all(neuron in NEURONS for _, neuron in CASES.values())
    found = table(Path(arguments[0]) if arguments else None)
    PAGE.write_text(page(found if arguments else of_before(found)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
