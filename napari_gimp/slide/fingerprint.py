"""Name a slide by its content, without reading gigabytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK_BYTES = 1 << 16
BLOCKS = 24


def fingerprint(path: Path) -> str:
    """Return a hex digest of a file's size, head, tail and blocks spread between.

    A gigapixel file is read at `BLOCKS` places (1.5 MB): equal files give equal
    digests, and two scans differ in size and in every block of compressed pixels.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - BLOCK_BYTES)
    with path.open("rb") as file:
        for offset in sorted({last * i // (BLOCKS - 1) for i in range(BLOCKS)}):
            file.seek(offset)
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:32]
