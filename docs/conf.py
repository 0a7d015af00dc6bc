"""How Sphinx builds these pages: ``make docs``."""

from __future__ import annotations

import re
from importlib import metadata

from sphinx.application import Sphinx

import leanspike.recipes
import leanspike.run
import leanspike.studies  # noqa: F401 - before autodoc imports with TYPE_CHECKING, which pydantic reads

project = "leanspike"
release = metadata.version(project)

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",  # "Args:", "Raises:" ...
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_copyright = False

default_role = "literal"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config"}  # pydantic's
autodoc_typehints_format = "short"
napoleon_use_ivar = True


def link_to_files(_app: Sphinx, _page: str, text: list[str]) -> None:
    """A Markdown file outside of docs/ is no page: link to the file, as to any other."""
    text[0] = re.sub(r"\]\((\.\./(?:\w+/)*[A-Z]+\.md)\)", r"](path:\1)", text[0])


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", link_to_files)
