"""The home folder: everything that outlives a process, and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.annotate import AnnotationStore, Budget
from langchain_falconer.corpus import Workspace
from langchain_falconer.errors import RunError
from langchain_falconer.files import digest, read_json, write_json
from langchain_falconer.graph.results import Results
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan, Planner
from langchain_falconer.registry import Registry


@dataclass(frozen=True)
class Home:
    """Annotations (SQLite), proxies (safetensors), runs (shards), results and checkpoints (SQLite) in one ``folder``.

    Folders are made when something is first written to them.
    """

    folder: Path

    @classmethod
    def at(cls, folder: str | Path | None) -> Home:
        """Return the home at ``folder``, ``$FALCONER_HOME`` or ``~/.falconer``. Raises ``RunError`` for a file."""
        if folder is None:
            folder = os.environ.get("FALCONER_HOME") or Path.home() / ".falconer"
        path = Path(folder)
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
    def embeddings(self) -> Path:
        """The folder of the embeddings of passages, by what embeds them."""
        return self.folder / "embeddings"

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

    def plan(self, llm: LLM, instruction: str, budget: Budget) -> Plan:
        """Return the plan that this LLM wrote for this instruction before, or have it written within the budget.

        Raises:
            PlannerError: The LLM gave no valid plan.
            BudgetError: The budget is used up.
        """
        file = self._in("plans") / f"{digest(instruction, llm.name)}.json"
        if (data := read_json(file)) is None:
            data = Planner(llm).plan(instruction, budget.for_source(llm.name, "plan")).to_dict()
            write_json(file, data)
        return Plan.parse(data)

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self._in(f"runs/{run_id}")

    def finished_run(self, run_id: str | None = None) -> Path:
        """Return the folder of the newest finished run whose id begins like this.

        Raises:
            RunError: There is none; it names those that there are.
        """
        runs = self.folder / "runs"
        finished = sorted(runs.glob("*/summary.json"), key=lambda file: file.stat().st_mtime)
        chosen = [file.parent for file in finished if run_id is None or file.parent.name.startswith(run_id)]
        if not chosen:
            names = ", ".join(file.parent.name for file in finished) or "none"
            raise RunError(f"there is no finished run {run_id or ''} in {runs}; finished are: {names}", path=runs)
        return chosen[-1]

    def texts_file(self, fingerprint: str) -> Path:
        """Return the file of the digest of the texts of a corpus, by its fingerprint."""
        return self._in("texts") / f"{fingerprint}.json"

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
