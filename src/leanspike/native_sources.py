"""Which sources a native library is built from: a digest of them, which the build writes into it.

``setup.py`` runs this file by its path, before leanspike is there: it imports nothing of it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def native_files(root: Path) -> list[Path]:
    """What the library is built from in the checkout at ``root``; nothing where there is none."""
    code = sorted((root / "src" / "native").glob("*.[ch]"))
    return [root / "setup.py", *code] if code else []


def native_digest(root: Path) -> str | None:
    """32 hexadecimal digits for the contents and names of `native_files`; None without any.

    >>> native_digest(Path("nowhere")) is None
    True
    """
    digest = hashlib.sha256()
    files = native_files(root)
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:32] if files else None
