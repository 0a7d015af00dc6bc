"""A digest of the sources of a C library, which the build writes into the library.

``libraries.py`` runs this file by its path, before anything is installed, so it imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes as long to import as the rest of the package
    from pathlib import Path

SHARED = "engine/instructions.h"
"""What both libraries include."""


def library_files(root: Path, folder: str) -> list[Path]:
    """What the library of ``src/<folder>`` is built from in a checkout; nothing without one."""
    code = {*(root / "src" / folder).glob("*.[ch]"), root / "src" / SHARED}
    return [root / "libraries.py", *sorted(code)] if len(code) > 1 else []


def library_digest(root: Path, folder: str) -> str | None:
    """Return 32 hexadecimal digits for the contents and names of `library_files`, or None.

    >>> from pathlib import Path
    >>> library_digest(Path("nowhere"), "native") is None
    True
    """
    import hashlib

    digest = hashlib.sha256()
    files = library_files(root, folder)
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32] if files else None
