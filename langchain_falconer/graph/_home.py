"""The home folder: everything that outlives a process, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_falconer._files import write_whole
from langchain_falconer.annotate import AnnotationStore
from langchain_falconer.corpus import Workspace
from langchain_falconer.errors import RunError
from langchain_falconer.proxy import Registry


def default_home() -> Path:
    """``$FALCONER_HOME``, else ``~/.falconer``."""
    return Path(os.environ.get("FALCONER_HOME") or Path.home() / ".falconer")


@dataclass(frozen=True)
class Home:
    """Where Falconer keeps annotations (SQLite), proxies (safetensors), runs (shards) and checkpoints (SQLite)."""

    folder: Path

    @classmethod
    def at(cls, folder: str | Path | None) -> Home:
        """The home at ``folder``, made if it is missing. Raises ``RunError`` if it cannot be."""
        path = Path(folder) if folder is not None else default_home()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"the home {path} cannot be made ({error.strerror}); name another with --home") from None
        return cls(path.resolve())

    def store(self) -> AnnotationStore:
        """The annotation store; close it after use."""
        return AnnotationStore(self.folder / "annotations.sqlite")

    @property
    def registry(self) -> Registry:
        """The trained proxies."""
        return Registry(self.folder / "proxies")

    @property
    def checkpoints(self) -> Path:
        """The SQLite file of the graph's checkpointer."""
        return self.folder / "checkpoints.sqlite"

    @property
    def corpora(self) -> Path:
        """Where corpora that came as objects are spooled."""
        return self.folder / "corpora"

    @property
    def workspace(self) -> Workspace:
        """The named corpora."""
        return Workspace(self.folder / "workspace")

    def plan_file(self, key: str) -> Path:
        """Where the plan that an LLM wrote for an instruction is kept."""
        return self._in("plans") / f"{key}.json"

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run."""
        return self._in(f"runs/{run_id}")

    def _in(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def digest(*parts: Any) -> str:
    """A short stable hash of JSON data (16 hex digits)."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_digest(path: str | Path | None) -> str | None:
    """A hash of a file's bytes; None where there is no such file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path and Path(path).is_file() else None


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    write_whole(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON in a file, or None where there is no such file."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else None
