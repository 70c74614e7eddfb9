"""What the folder of a proxy holds, and how it comes to its place: whole or not at all."""

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
"""The files that a proxy may consist of; ``ready`` is what a run leaves in one that it has finished."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a proxy, checked as far as that goes without reading a weight.

    Raises:
        OSError: it cannot be read.
        ValueError: says what is wrong with it, or which file the folder lacks.
    """
    try:
        manifest = json.loads((folder / FILES["manifest"]).read_bytes())
    except (ValueError, RecursionError):
        raise ValueError("its manifest is not JSON") from None
    if not isinstance(manifest, dict):
        raise ValueError("its manifest is no JSON object")
    if (found := manifest.get("format")) != FORMAT:
        raise ValueError(f"it has format {found!r}, this version reads {FORMAT}")
    if lacking := {"base", "data", "max_tokens", "passage_chars", "plan", "settings"} - manifest.keys():
        raise ValueError(f"its manifest lacks {', '.join(sorted(lacking))}")
    if missing := [name for name in _NEEDED if not (folder / name).is_file()]:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return manifest


def is_proxy(names: Iterable[str]) -> bool:
    """Whether files of these names are a proxy, all of them: nothing else is lost with them."""
    kept = {name for name in names if not (name.startswith(".") and "partial" in name)}  # left by a killed process
    return FILES["manifest"] in kept and kept <= PARTS


def check_place(path: Path) -> None:
    """Refuse early where a proxy could not be put in the end. Raises ``ProxyError``."""
    if path.exists() and not (path.is_dir() and is_proxy(part.name for part in path.iterdir())):
        raise ProxyError(f"{path} exists and is no proxy (or holds other files too); choose another path")
    above = next(p for p in path.absolute().parents if p.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise ProxyError(f"{path} cannot be made, for {above} is no folder to write to; choose another path")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes ``path`` when the block ends well; a proxy that was there is replaced.

    Raises:
        ProxyError: there is something at ``path`` that is no proxy, or it cannot be written.
    """
    check_place(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as around:
            folder = Path(around) / "new"
            folder.mkdir()  # with the mode that the umask wants, which the one around it has not
            yield folder
            if path.exists():
                path.replace(Path(around) / "old")
            folder.replace(path)
    except OSError as error:
        raise ProxyError(f"{path} cannot be written ({error.strerror or error}); choose another place") from None
