"""The folder of a proxy: its files, its manifest, and atomic replacement."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from typing_extensions import NotRequired, TypedDict

from langchain_falconer.errors import ProxyError
from langchain_falconer.plan import PlanData

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


class Manifest(TypedDict):
    """Facts about a proxy, as JSON data in its ``manifest.json``; training and runs add more.

    Attributes:
        format: Version of the folder's layout.
        plan: The plan that it answers.
        plan_fingerprint: Digest of the plan.
        step_fingerprints: Digest of each step, by its id.
        base: The checkpoint that it was made from.
        passage_chars: Characters of a passage.
        max_tokens: Tokens of one encoder pass.
        settings: Settings of its training.
        data: Sizes and digest of its training data.
        versions: Versions of the libraries that made it.
        prompt: ``cuckoo`` where texts are read inside its prompt.
        calibration: Its :class:`Calibration`.
        memory: Plans that the same network learned earlier.
        quality: Its quality on test texts.
    """

    format: int
    plan: PlanData
    plan_fingerprint: str
    step_fingerprints: dict[str, str]
    base: str
    passage_chars: int
    max_tokens: int
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    versions: Mapping[str, str]
    prompt: NotRequired[str]
    calibration: NotRequired[Mapping[str, Any]]
    memory: NotRequired[list[PlanData]]
    quality: NotRequired[Mapping[str, Any] | None]


def read_manifest(folder: Path) -> Manifest:
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
    return cast(Manifest, manifest)


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
