"""Write the tables of docs/reference/recipes.md from the models in src/leanspike/config.

    python docs/make_keys.py

They stand between ``<!-- keys -->`` and ``<!-- end -->``: a section for each part of a recipe.
"""

from __future__ import annotations

import re
from pathlib import Path

from leanspike.recipes.keys import Key, KeySection, sections

PAGE = Path(__file__).parent / "reference" / "recipes.md"
REGION = re.compile(r"(<!-- keys -->\n).*?(<!-- end -->)", re.DOTALL)


def page(text: str) -> str:
    """The page with all its tables written anew."""
    tables = "\n\n".join(map(section, sections()))
    return REGION.sub(lambda found: f"{found[1]}\n{tables}\n\n{found[2]}", text)


def section(of: KeySection) -> str:
    """A heading with the places, what it is, and a row for each key."""
    places = ", ".join(f"`{place}`" for place in of.places if place)
    head = ["| key | takes | unless given | meaning |", "|---|---|---|---|"]
    title = f"## {places or 'At the top'}"
    return "\n".join([title, "", of.meaning, "", *head, *map(row, of.keys)])


def row(key: Key) -> str:
    """One key of a table."""
    default = f"`{key.default}`" if key.default else "must be given"
    return f"| `{key.name}` | {key.type} | {default} | {key.meaning} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
