"""What `benchmarks/early_answers.py` runs and writes, without its training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.early_answers import ARMS, SETTINGS, WHOLE, recipe_of, runs, write
from leanspike.studies.kept import read_kept

ROOT = Path(__file__).parents[1]
TEACHER = Path("resnet32.th")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_run_is_a_recipe(name: str) -> None:
    setting = SETTINGS[name]
    for arm in setting.arms:
        recipe = recipe_of(setting, setting.repetitions[-1], arm, TEACHER)
        assert all((stage.objective.tet is not None) == ("tet" in arm) for stage in recipe.snn)
        assert recipe.evaluate.early_exit == ("margin",)
        assert recipe.data.cross_validation is not None or recipe.seed == 2
        if recipe.ann is not None:
            again = recipe_of(setting, "seed=1", arm, TEACHER, Path("a/ann"))
            assert again.ann is None
            assert again.model.weights == "a/ann"


def test_the_first_repetition_of_every_setting_comes_first() -> None:
    chosen = {name: SETTINGS[name] for name in WHOLE.split(",")}
    order = list(runs(chosen, list(ARMS)))
    assert len(order) == len(set(order)) == 3 * (5 + 8) + 5 * 5
    assert list(dict.fromkeys(name for name, _, _ in order[: 5 + 8 + 5])) == WHOLE.split(",")
    assert {repetition for _, repetition, _ in order[:13]} == {"seed=0"}
    assert {repetition for _, repetition, _ in order[-4:]} == {"data.cross_validation=[5, 5]"}
    assert {arm for _, _, arm in runs(chosen, ["tet"])} == {"tet"}


def test_the_table_is_of_what_the_folder_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path)
    assert capsys.readouterr().out.endswith("holds no results yet\n")
    for place in ("mnist/seed=0/tet", "mnist/seed=2/tet", "nmnist/fold=5/cross_entropy"):
        (tmp_path / place).mkdir(parents=True)
        kept = read_kept(ROOT / "results" / "bntt_mnist" / "base-0.json")
        (tmp_path / place / "result.json").write_text(json.dumps(kept.result))
    write(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert capsys.readouterr().out == text
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("##")] == ["## mnist", "## nmnist"]
    assert "step 8 | early | mean steps | spikes per neuron |" in lines[2]
    assert lines[4].startswith("| tet | 2 | ")
    assert lines[4].endswith("| 99.05 ± 0.00 | 98.96 ± 0.00 | 1.37 ± 0.00 | 1.53 ± 0.00 |")
    assert lines[-1].endswith("| 99.05 | 98.96 | 1.37 | 1.53 |")
