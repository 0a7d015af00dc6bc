"""Nobody outside ``leanspike.neuron`` knows one neuron from another."""

import ast
from pathlib import Path

import pytest

import leanspike
from leanspike.neuron import neurons

SOURCE = Path(leanspike.__file__).parent
CONCRETE = {kind.__name__: kind.__module__ for kind in neurons.registered.values()}
OUTSIDE = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if path.parts[len(SOURCE.parts)] != "neuron" and path != SOURCE / "__init__.py"
]


def named(tree: ast.AST) -> set[str]:
    """The neurons that code names; documentation may show one."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
            found |= {name for name, home in CONCRETE.items() if node.module == home}
    return found & CONCRETE.keys()


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_code_outside_names_no_neuron(path):
    assert named(ast.parse(path.read_text("utf-8"))) == set()


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(module, LIF)",
        "import leanspike as ls\nls.LIF()",
        "from leanspike.neuron import CurrentLIF",
        "from leanspike.neuron.adaptive_lif import AdaptiveLIFConfig",
        "def f():\n    return neuron.LIF",
    ],
)
def test_a_neuron_that_is_named_is_noticed(code):
    assert named(ast.parse(code))


def test_a_docstring_may_show_one():
    assert not named(ast.parse('"""\n>>> LIF(0.5)\n"""\nneurons.create("lif")'))
