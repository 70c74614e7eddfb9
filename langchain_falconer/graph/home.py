"""The home folder: everything that outlives a process, and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.annotate import AnnotationStore
from langchain_falconer.corpus import Workspace
from langchain_falconer.errors import RunError
from langchain_falconer.graph.results import Results
from langchain_falconer.registry import Registry


def default_home() -> Path:
    """Return ``$FALCONER_HOME``, else ``~/.falconer``."""
    return Path(os.environ.get("FALCONER_HOME") or Path.home() / ".falconer")


@dataclass(frozen=True)
class Home:
    """Annotations (SQLite), proxies (safetensors), runs (shards), results and checkpoints (SQLite) in one folder.

    Folders are made when something is first written to them.

    Attributes:
        folder: The folder.
    """

    folder: Path

    @classmethod
    def at(cls, folder: str | Path | None) -> Home:
        """Return the home at ``folder``, or the default one. Raises ``RunError`` if it cannot be a folder."""
        path = Path(folder) if folder is not None else default_home()
        if path.exists() and not path.is_dir():
            raise RunError(f"the home {path} is a file; name a folder with --home", path=path)
        return cls(path.resolve())

    def store(self) -> AnnotationStore:
        """Open the annotation store; close it after use."""
        return AnnotationStore(self._in(".") / "annotations.sqlite")

    @property
    def registry(self) -> Registry:
        """The trained proxies."""
        return Registry(self.folder / "proxies")

    @property
    def results(self) -> Results:
        """The answers to earlier questions."""
        return Results(self.folder / "results")

    @property
    def partitions(self) -> Path:
        """The folder of rows by partition of a dataset."""
        return self.folder / "partitions"

    @property
    def checkpoints(self) -> Path:
        """The SQLite file of the graph's checkpointer."""
        return self._in(".") / "checkpoints.sqlite"

    @property
    def corpora(self) -> Path:
        """The folder of corpora that were passed as objects."""
        return self.folder / "corpora"

    @property
    def workspace(self) -> Workspace:
        """The named corpora."""
        return Workspace(self.folder / "workspace")

    def plan_file(self, key: str) -> Path:
        """Return the file of the plan that an LLM wrote for an instruction."""
        return self._in("plans") / f"{key}.json"

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self._in(f"runs/{run_id}")

    def lock_file(self, job_id: str) -> Path:
        """Return the lock file of a job."""
        return self._in("locks") / f"{job_id}.lock"

    def _in(self, name: str) -> Path:
        folder = self.folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"the home {self.folder} cannot be made ({error.strerror}); name another with --home", path=self.folder
            ) from error
        return folder
