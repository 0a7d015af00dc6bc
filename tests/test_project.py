"""The files around the code agree with it: authors, versions, workflows, linters."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
CODE = [
    path
    for folder in ("src", "tests", "benchmarks", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read_yaml(path: str | Path) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def floor_of(package: str) -> str:
    """The lowest version that pyproject.toml allows, at least ``2.6`` for ``torch>=2.6,<3``."""
    (found,) = (
        match[1] for d in PROJECT["dependencies"] if (match := re.match(rf"{package}>=([\d.]+)", d))
    )
    return str(found)


def jobs() -> dict[str, Any]:
    return {name: job for path in WORKFLOWS for name, job in read_yaml(path)["jobs"].items()}


def test_the_authors_are_the_same_everywhere() -> None:
    (author,) = PROJECT["authors"]
    citation = read_yaml("CITATION.cff")
    assert citation["authors"] == [author]
    assert f"Copyright (c) 2026 {author['name']}\n" in (ROOT / "LICENSE").read_text()
    assert citation["license"] == PROJECT["license"]


def test_the_citation_is_of_this_version_and_names_no_place_that_is_not_there() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == PROJECT["version"]
    assert citation["abstract"] == PROJECT["description"]
    assert not {"doi", "url", "repository-code", "identifiers"} & set(citation)


def test_the_workflows_run_what_people_run() -> None:
    commands = [
        step["run"].split()
        for job in jobs().values()
        for step in job["steps"]
        if step.get("run", "").startswith("make")
    ]
    assert ["make", "test"] in commands
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for _, *arguments in commands:
        assert {a for a in arguments if "=" not in a and not a.startswith("-")} <= targets


def test_every_python_and_the_lowest_torch_are_tried() -> None:
    rows = jobs()["test"]["strategy"]["matrix"]["include"]
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert lowest in {row["python"] for row in rows}
    assert {row.get("os") for row in rows} == {None, "macos-latest"}
    (old,) = (row for row in rows if "torch" in row)
    assert old["torch"].startswith(f"{floor_of('torch')}.")
    assert old["numpy"].startswith(f"{floor_of('numpy')}.")


def test_pre_commit_runs_the_linters_of_make() -> None:
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    tools = {Path(hook["entry"].split()[0]).name for hook in repository["hooks"]}
    assert tools == set(re.findall(r"@\$\(BIN\)/(ruff|mypy)\b", (ROOT / "Makefile").read_text()))
    pinned = {d.partition("==")[0] for d in PROJECT["optional-dependencies"]["dev"] if "==" in d}
    assert tools == pinned


def test_the_issue_forms_ask_something() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
    assert [form.stem for form in forms] == ["bug", "refused_network", "wrong_number"]
    for form in forms:
        fields = [field for field in read_yaml(form)["body"] if field["type"] != "markdown"]
        assert any(field.get("validations", {}).get("required") for field in fields)


def imported() -> dict[str, Path]:
    """Each top-level module that a file imports, with one such file; relative ones left out."""
    statement = re.compile(r"^[ \t]*(?:import (\w+)|from (\w+)[\w.]* import )", re.MULTILINE)
    return {
        first or second: path
        for path in CODE
        for first, second in statement.findall(path.read_text(encoding="utf-8"))
    }


def test_what_is_imported_is_declared() -> None:
    """What only this environment happens to hold would be missing in a fresh one."""
    extras = PROJECT["optional-dependencies"]
    declared = chain(PROJECT["dependencies"], *extras.values(), ["leanspike", "setuptools"])
    names = {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in declared}  # type: ignore[index]
    providers = packages_distributions()
    own = {path.stem for path in CODE} | {"benchmarks", "leanspike", "leanspike_runtime", "tests"}
    own |= {"pydantic_core", "secondnet"}  # a part of pydantic; a user's file, which a test writes
    own |= {"sinabs", "rockpool"}  # in environments of their own
    stray = {
        module: str(path.relative_to(ROOT))
        for module, path in imported().items()
        if module not in sys.stdlib_module_names | own
        and not names & {normal(name) for name in providers.get(module, ())}
    }
    assert stray == {}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
