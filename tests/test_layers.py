"""The architecture, held by walking the source: who imports whom, and when; the docstrings."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "leanspike"

# From the bottom up: each may import those before it, and none after it.
LAYERS = (
    *("errors", "environment", "section", "registry", "notice", "optional", "files", "memory"),
    *(
        "modes",
        "renamed",
        "transforms",
        "batches",
        "processor",
        "native",
        "surrogate",
        "distributed",
    ),
    *("backends", "neuron", "synapse", "temporal", "models", "graph", "lower", "execute"),
    "engine",
    *(
        "surgery",
        "saved",
        "data",
        "evaluation",
        "metrics",
        "export",
        "train",
        "report",
        "config",
        "recipes",
    ),
    "run",
    "studies",
    *(
        "bench",
        "console",
        "commands",
        "cli",
    ),
    "__main__",
)
# Old names, each for one more version; nothing of leanspike's uses them.
OLD = {"backend": ("backends", "watch_backends"), "evaluate": ("evaluation", "Result")}
PEERS = ("spikingjelly", "snntorch", "norse")
# Not everybody has these, or needs them at once.
READERS = ("nir", "nirtorch", "h5py", "onnx", "onnxruntime", "onnxscript", "neurobench")
OPTIONAL = (
    *("torchvision", "sklearn", "PIL", "matplotlib", "jinja2", "tensorboard"),
    *(*PEERS, *READERS),
)
DEFERRED = (*OPTIONAL, "torch.utils.tensorboard", "typer")


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax tree of each module, by dotted name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ("leanspike", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text("utf-8"))
    return found


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """What these statements may import: modules, or names in them, dotted."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write it in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: not those in functions, nor for types."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_import(child)


def layer(name: str) -> str:
    """``leanspike.graph.ops`` is in ``surgery``; the package itself is above all layers."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_module_has_a_layer() -> None:
    assert {layer(name) for name in modules()} == {*LAYERS, *OLD, ""}


@pytest.mark.parametrize("name", modules())
def test_a_module_and_what_its_package_exports_never_share_a_name(name: str) -> None:
    package, _, own = name.rpartition(".")
    if package and own not in OLD:
        assert getattr(import_module(package), own, None) in (None, import_module(name))


@pytest.mark.parametrize("old", OLD)
def test_an_old_name_says_what_replaced_it_and_works(old: str) -> None:
    new, part = OLD[old]
    code = (
        f"import warnings, leanspike; warnings.simplefilter('always')\n"
        f"from leanspike.{old} import {part}\n"
        f"import leanspike.{new} as new; assert new.{part} is {part}\n"
        "assert callable(leanspike.evaluate)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"leanspike.{old}" in told.stderr
    assert f" is leanspike.{new}" in told.stderr


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("leanspike.temporal", name) for name in ("fold", "unfold")),
        ("leanspike.surgery", "remaining_norms"),
        *(("leanspike.synapse.convolution", name) for name in ("DENSEST", "OUTPUTS", "density")),
    ],
)
def test_what_the_reference_used_to_teach_is_still_found(module: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert getattr(import_module(module), name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'wrong'"):
        import_module(module).wrong  # noqa: B018


@pytest.mark.parametrize("name", modules())
def test_imports_run_downwards_only(name: str) -> None:
    assert upward(name, modules()[name]) == []


def upward(name: str, tree: ast.Module) -> list[str]:
    """What a module imports from its own height or above, other than from its own package."""
    own = layer(name)
    below = LAYERS[: LAYERS.index(own)] if own in LAYERS else LAYERS
    targets = [t for t in imported(ast.walk(tree)) if t.startswith("leanspike.")]
    return [t for t in targets if layer(t) != own and layer(t) not in below]


def test_an_upward_import_is_noticed() -> None:
    tree = ast.parse("def f():\n    from leanspike.surgery import spike\nimport leanspike.errors")
    assert upward("leanspike.neuron.lif", tree) == ["leanspike.surgery.spike"]
    assert upward("leanspike.train.loop", tree) == []


def test_no_module_imports_itself_in_a_circle() -> None:
    trees = modules()
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        targets = [t for t in imported(at_import(tree)) if t.startswith("leanspike")]
        graph[name] = {t if t in trees else t.rpartition(".")[0] for t in targets} - {name}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", modules())
def test_optional_packages_are_imported_where_they_are_needed(name: str) -> None:
    for target in imported(at_import(modules()[name])):
        assert target.split(".")[0] not in OPTIONAL, f"{name} imports {target}"
        assert not target.startswith("torch.utils.tensorboard"), f"{name} imports {target}"


def test_importing_leanspike_loads_no_optional_package() -> None:
    # Whatever torch itself brings is not ours to judge.
    code = f"""if True:
        import sys, torch
        before = set(sys.modules)
        import leanspike
        print(*sorted((set(sys.modules) - before) & set({DEFERRED})))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def packages() -> list[ModuleType]:
    folders = [path.parent.relative_to(SOURCE.parent) for path in SOURCE.rglob("__init__.py")]
    found = [import_module(".".join(folder.parts)) for folder in sorted(folders)]
    return [package for package in found if "__all__" in vars(package)]


def public() -> dict[str, tuple[ModuleType, Any]]:
    """The functions and classes in the ``__all__`` of each package, by their own dotted name."""
    found = {}
    for package in packages():
        for name in package.__all__:
            value = getattr(package, name)
            if isinstance(value, FunctionType | type):
                found[f"{value.__module__}.{value.__qualname__}"] = (package, value)
    return found


def test_every_name_in_all_exists() -> None:
    assert len(packages()) >= 9
    for package in packages():
        assert set(package.__all__) <= set(vars(package)), package.__name__


@pytest.mark.parametrize("name", public())
def test_what_is_public_has_a_docstring(name: str) -> None:
    _, value = public()[name]
    assert value.__doc__, name
    if isinstance(value, type):
        for method, docstrings in methods(value).items():
            assert any(docstrings), f"{name}.{method}"


def methods(value: type) -> dict[str, list[str]]:
    """The public methods of a class: their docstrings, there and where they are declared."""
    found: dict[str, list[str]] = {}
    for base in value.__mro__:
        for name, member in list(vars(base).items()):  # pydantic may complete the class
            member = getattr(member, "fget", None) or getattr(member, "__func__", member)
            function = inspect.unwrap(member) if callable(member) else None
            ours = base.__module__.startswith("leanspike") and not name.startswith("_")
            if ours and isinstance(function, FunctionType):
                found.setdefault(name, []).append(function.__doc__ or "")
    return found


def test_what_is_public_has_an_example() -> None:
    """A function or class shows itself at work, or its package's docstring does."""
    without = set()
    for name, (package, value) in public().items():
        texts = [value.__doc__ or ""]
        if isinstance(value, type):
            if inspect.isabstract(value) or getattr(value, "_is_protocol", False):
                continue
            texts += [text for docstrings in methods(value).values() for text in docstrings]
        shown = any(">>>" in text for text in texts)
        if not shown and f"{value.__name__}(" not in (package.__doc__ or ""):
            without.add(name.removeprefix("leanspike."))
    assert without == set()


def test_the_runtime_needs_numpy_alone() -> None:
    for path in sorted(SOURCE.with_name("leanspike_runtime").rglob("*.py")):
        for target in imported(ast.walk(ast.parse(path.read_text("utf-8")))):
            first = target.split(".")[0]
            allowed = first in sys.stdlib_module_names or first in ("numpy", "leanspike_runtime")
            assert allowed, f"{path.name} imports {target}"


def test_what_runs_at_import_is_told_from_what_does_not() -> None:
    tree = ast.parse(
        "import matplotlib\ndef f():\n    import sklearn\nif TYPE_CHECKING:\n    import PIL"
    )
    assert list(imported(at_import(tree))) == ["matplotlib"]
    assert set(imported(ast.walk(tree))) == {"matplotlib", "sklearn", "PIL"}
