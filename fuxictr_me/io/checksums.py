"""Checksums of bytes, JSON content and files."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK_BYTES = 1 << 22
ALGORITHMS: dict[str, "Callable[[], _Hash]"] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "blake2b": lambda: hashlib.blake2b(digest_size=16),
}


def hash_bytes(content: bytes, algorithm: str = "sha256") -> str:
    """Return the hex digest of ``content``; ``algorithm`` is one of ``md5``, ``sha256`` and ``blake2b`` (16 bytes)."""
    digest = ALGORITHMS[algorithm]()
    digest.update(content)
    return digest.hexdigest()


def hash_json(content: object, algorithm: str = "sha256") -> str:
    """Return the hex digest of ``content`` as JSON with sorted keys; what JSON cannot hold counts by its ``str``."""
    return hash_bytes(json.dumps(content, sort_keys=True, default=str).encode(), algorithm)


def hash_file(path: str | Path, algorithm: str = "sha256", show_progress: bool = False) -> str:
    """Return the hex digest of a file's bytes.

    Args:
        path: the file.
        algorithm: one of ``md5``, ``sha256`` and ``blake2b`` (16 bytes).
        show_progress: show a bar if the output is a terminal.

    Raises:
        OSError: the file does not exist or cannot be read.
    """
    path, digest = Path(path), ALGORITHMS[algorithm]()
    bar = tqdm(
        total=path.stat().st_size, unit="B", unit_scale=True, disable=None if show_progress else True, desc=path.name
    )
    with open(path, "rb") as file, bar:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
