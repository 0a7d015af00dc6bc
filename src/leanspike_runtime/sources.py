"""A digest of the sources of a C library, which the build writes into the library.

``libraries.py`` runs this file by its path, before anything is installed, so it imports nothing.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def library_files(root: Path, folder: str) -> list[Path]:
    """Return the sources of the library of ``src/<folder>`` in a checkout, else nothing."""
    code = sorted((root / "src" / folder).glob("*.[ch]"))
    return [root / "libraries.py", *code] if code else []


def library_digest(root: Path, folder: str) -> str | None:
    """Return 32 hexadecimal digits for the contents and names of `library_files`, or None.

    >>> library_digest(Path("nowhere"), "native") is None
    True
    """
    digest = hashlib.sha256()
    files = library_files(root, folder)
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32] if files else None
