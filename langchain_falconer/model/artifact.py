"""The folder of a proxy: its files, its manifest, and atomic replacement."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_falconer.errors import ProxyError

FORMAT = 2
FILES = {
    "weights": "model.safetensors",
    "heads": "heads.safetensors",
    "manifest": "manifest.json",
    "onnx": "model.onnx",
    "int8": "model-int8.onnx",
    "config": "config.json",
}
_NEEDED = (FILES["weights"], FILES["heads"], FILES["config"], "tokenizer.json")
PARTS = frozenset([*FILES.values(), *_NEEDED, "ready"])
"""Names of the files of a proxy; ``ready`` marks a proxy that a run has finished."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a proxy and check it, without reading weights.

    Raises:
        OSError: The manifest cannot be read.
        ValueError: The manifest is invalid, or the folder lacks a file.
    """
    try:
        manifest = json.loads((folder / FILES["manifest"]).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError("its manifest is not JSON") from error
    if not isinstance(manifest, dict):
        raise ValueError("its manifest is not a JSON object")
    if (number := manifest.get("format")) != FORMAT:
        raise ValueError(f"it has format {number!r}, this version reads {FORMAT}")
    if lacking := {"base", "data", "max_tokens", "passage_chars", "plan", "settings"} - manifest.keys():
        raise ValueError(f"its manifest lacks {', '.join(sorted(lacking))}")
    if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return manifest


def is_proxy(names: Iterable[str]) -> bool:
    """Return whether files of these names are a proxy and nothing else."""
    # Partial files may be there after a process was killed.
    complete = {name for name in names if not (name.startswith(".") and "partial" in name)}
    return FILES["manifest"] in complete and complete <= PARTS


def check_destination(path: Path) -> None:
    """Check, before any training, that a proxy can be saved at ``path``.

    Raises:
        ProxyError: There is something else at ``path``, or its folder cannot be written to.
    """
    if path.exists() and not (path.is_dir() and is_proxy(part.name for part in path.iterdir())):
        raise ProxyError(f"{path} exists and is not a proxy (or holds other files too); choose another path")
    parent = next(p for p in path.absolute().parents if p.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ProxyError(f"{path} cannot be created: {parent} is not a writable folder; choose another path")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder, which becomes ``path`` when the block succeeds and replaces an older proxy there.

    Raises:
        ProxyError: There is something at ``path`` that is not a proxy, or it cannot be written.
    """
    check_destination(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            folder = Path(temporary) / "new"
            folder.mkdir()  # with the mode of the umask, unlike the temporary folder
            yield folder
            if path.exists():
                path.replace(Path(temporary) / "old")
            folder.replace(path)
    except OSError as error:
        raise ProxyError(f"{path} cannot be written ({error.strerror or error}); choose another path") from error
