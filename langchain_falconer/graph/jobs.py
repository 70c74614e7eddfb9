"""What a run was asked for, in its folder: so that it can be run again with a person's corrections."""

from __future__ import annotations

from pathlib import Path

from langchain_falconer.errors import RunError
from langchain_falconer.files import read_json, write_json
from langchain_falconer.records import FrozenModel, JsonObject
from langchain_falconer.settings import MineSettings

_FILE = "job.json"


class Job(FrozenModel):
    """The arguments of a call of :meth:`Falconer.mine`; URLs are without their credentials.

    Attributes:
        instruction: The instruction.
        corpus: Files or URLs.
        output: File or URL of the rows; ``None`` for one in the home.
        plan: The plan that was passed; ``None`` where the LLM wrote it.
        annotations: A person's own annotations.
        llm: Name of the LLM.
        recorded: Source whose recorded answers stood in for an LLM.
        settings: The settings.
    """

    instruction: str
    corpus: tuple[str, ...]
    output: str | None = None
    plan: JsonObject | None = None
    annotations: str | None = None
    llm: str | None = None
    recorded: str | None = None
    settings: MineSettings

    def save(self, run: Path) -> None:
        """Write the job into the folder of its run."""
        write_json(run / _FILE, self.model_dump(mode="json"))

    @classmethod
    def load(cls, run: Path) -> Job:
        """Read the job of a run. Raises ``RunError`` where an earlier release did not write it."""
        data = read_json(run / _FILE)
        if data is None:
            raise RunError(f"{run} does not say what it was asked for; run the same mine command again", path=run)
        return cls.model_validate(data)
