"""Atomic files, JSON files, and digests."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file atomically: yield a temporary path that becomes ``path`` if the block ends without an error.

    The temporary file lies in the same folder and is flushed to disk, so that a power cut leaves one whole file.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically."""
    with replacing(path) as partial:
        partial.write_text(text, "utf-8", newline="\n")


def digest(*parts: Any) -> str:
    """Return a stable hash of JSON data (16 hex digits)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_digest(path: str | Path | None) -> str | None:
    """Return the SHA-256 of the bytes of a file (64 hex digits); None if there is no such file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and Path(path).is_file() else None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_whole(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the data of a JSON file; None if there is no such file."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
