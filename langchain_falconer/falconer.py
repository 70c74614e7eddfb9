"""The facade: one object for the whole job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_falconer.annotate import Annotation, Budget, BudgetSettings, read_annotations
from langchain_falconer.corpus import (
    Added,
    Place,
    StoredCorpus,
    Url,
    open_corpus_files,
    place,
    spool,
    stored_settings,
)
from langchain_falconer.errors import RunError, SettingsError
from langchain_falconer.evaluate import Quality
from langchain_falconer.execute import read_rows
from langchain_falconer.graph import Home, MineSettings, Review, create_falconer_graph, digest, planned
from langchain_falconer.llm import LLM, LLMSettings
from langchain_falconer.plan import Plan, Planner
from langchain_falconer.proxy import Proxy, train_proxy
from langchain_falconer.report import render_html
from langchain_falconer.route import Decision, Route, Source, Trust

if TYPE_CHECKING:
    import pandas as pd
    from langchain_core.language_models import BaseChatModel

Progress = Callable[[dict[str, Any]], None]
Reviewer = Callable[[dict[str, Any]], Review]


@dataclass(frozen=True)
class MiningResult:
    """What mining gave: rows on disk, and the summary of how they came about."""

    summary: dict[str, Any]

    @property
    def output(self) -> Place:
        """The file of result rows; a URL where they were wanted there."""
        return place(self.summary["output"])

    @property
    def plan(self) -> Plan:
        """The plan that was run."""
        return Plan.parse(self.summary["plan"])

    @property
    def cost(self) -> dict[str, Any]:
        """LLM calls, tokens and USD of this run, and the tokens that asking about every text would have taken."""
        cost: dict[str, Any] = self.summary["cost"]
        return cost

    @property
    def quality(self) -> Quality | None:
        """Agreement with the annotator on held-out texts, with 95% intervals; None if nothing was held out."""
        return Quality.from_dict(self.summary["quality"]) if self.summary.get("quality") else None

    @property
    def guarantee(self) -> dict[str, Any] | None:
        """What is certified of the rows and what it took, ``"said"`` in words; None if no target was set."""
        guarantee: dict[str, Any] | None = self.summary.get("guarantee")
        return guarantee

    @property
    def result(self) -> str | None:
        """The id that :meth:`Falconer.ask` keeps the result under; None of a plain :meth:`Falconer.mine`."""
        return self.summary.get("result")

    @property
    def decision(self) -> dict[str, Any] | None:
        """The way that :meth:`Falconer.ask` took, the others, and why; None of a plain :meth:`Falconer.mine`."""
        return self.summary.get("decision")

    @property
    def target(self) -> dict[str, Any] | None:
        """The ``quality`` that :meth:`Falconer.ask` was to reach, whether it is ``met``, and by what ``reason``."""
        target: dict[str, Any] | None = self.summary.get("target")
        return target

    @property
    def proxy(self) -> Proxy:
        """The trained proxy. Raises ``RunError`` where none was trained or found for the answer."""
        if not self.summary["proxy"]:
            raise RunError("no trained proxy decided this answer; mine() trains one")
        return Proxy.load(self.summary["proxy"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """The result rows, one a text, in corpus order."""
        return read_rows(self.output)

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a data frame (extra ``pandas``)."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def report(self, path: str | Path) -> Path:
        """Write the HTML report to ``path``."""
        render_html(self.summary, self.rows(), Path(path))
        return Path(path)


class Falconer:
    """Plans an instruction, has a few hundred texts annotated, trains a proxy and runs it over a whole corpus.

    Args:
        llm: plans and annotates: any ``BaseChatModel``, or a string such as ``"openai:gpt-4.1-mini"``.
        annotations: a file of your own labels (JSONL); with it, and a plan, no LLM is needed.
        home: where annotations, proxies and runs are kept; ``$FALCONER_HOME`` or ``~/.falconer`` by default.
        settings: how to mine.
        llm_settings: timeout, retries, rate, concurrency, price.
    """

    def __init__(
        self,
        llm: LLM | BaseChatModel | str | None = None,
        *,
        annotations: str | Path | None = None,
        home: str | Path | None = None,
        settings: MineSettings | None = None,
        llm_settings: LLMSettings | None = None,
    ) -> None:
        self.llm = LLM(llm, llm_settings or LLMSettings()) if llm is not None and not isinstance(llm, LLM) else llm
        self.annotations = annotations
        self.home = Home.at(home)
        self.settings = settings or MineSettings()

    def plan(self, instruction: str) -> Plan:
        """The LLM's plan for an instruction."""
        if self.llm is None:
            raise RunError("planning needs an LLM; make the Falconer with llm=…")
        return Planner(self.llm).plan(instruction)

    def mine(
        self,
        instruction: str,
        corpus: Any,
        output: str | Place | None = None,
        *,
        plan: Plan | None = None,
        on_event: Progress | None = None,
        reviewer: Reviewer | None = None,
        recorded: str | None = None,
    ) -> MiningResult:
        """Mine a corpus. The same call again goes on where an earlier one was stopped, and pays nothing twice.

        Args:
            instruction: what is wanted, in plain words.
            corpus: a :meth:`corpus` of this home, a path or URL, a list of paths (``Path`` or
                :class:`~langchain_falconer.corpus.Url` objects), or texts: a list of ``str`` or LangChain
                ``Document``, a ``BaseLoader``, a Hugging Face dataset.
            output: ``.jsonl``, ``.parquet`` or ``.duckdb``, a file or (not DuckDB) a URL; by default in the home.
            plan: a plan that is there already.
            on_event: told of progress: ``{"stage", "event" | "done", "total"}``, with a ``"note"`` of what matters.
            reviewer: shown the plan, answers with a :class:`Review`; without one the plan is approved.
            recorded: without an LLM, the source in the annotation store whose recorded answers are used.

        Raises:
            FalconerError: with one sentence that names the fix.
        """
        if isinstance(corpus, StoredCorpus):
            options: dict[str, Any] = {"plan": plan, "on_event": on_event, "reviewer": reviewer, "recorded": recorded}
            return self._with(corpus=stored_settings()).mine(instruction, corpus.paths, output, **options)
        import sqlite3

        from langgraph.checkpoint.sqlite import SqliteSaver
        from langgraph.types import Command

        state: dict[str, Any] = {
            "instruction": instruction,
            "corpus": self._paths(corpus),
            "output": str(place(output).absolute()) if output else None,
            "plan": plan.to_dict() if plan else None,
            "annotations": str(Path(self.annotations).absolute()) if self.annotations else None,
            "auto_approve": reviewer is None,
        }
        connection = sqlite3.connect(self.home.checkpoints, check_same_thread=False, timeout=60)
        try:
            graph = create_falconer_graph(
                self.llm,
                home=self.home.folder,
                settings=self.settings,
                recorded=recorded,
                checkpointer=SqliteSaver(connection),
            )
            config: Any = {"configurable": {"thread_id": _thread(state, self)}}
            given: Any = _resumable(graph, config, state)
            while True:
                events: Any = graph.stream(given, config, stream_mode=["custom", "updates"], durability="sync")
                for mode, event in events:
                    if mode == "custom" and on_event:
                        on_event(event)
                snapshot = graph.get_state(config)
                if not snapshot.interrupts:
                    break
                assert reviewer is not None
                given = Command(resume=reviewer(snapshot.interrupts[0].value).model_dump())
        finally:
            connection.close()
        summary = snapshot.values["summary"]
        if "rejected" in summary:
            raise RunError(f"the plan was rejected ({summary['rejected']}); say it in other words, or give a plan")
        return MiningResult(summary)

    # ---- the workspace

    def add_documents(self, name: str, documents: Any) -> Added:
        """Add documents to a corpus of this home, which is made if there is none of this name.

        Args:
            name: lower-case letters, digits, ``_`` and ``-``.
            documents: what :meth:`mine` takes as corpus (a retriever's or search tool's ``Document`` list, paths,
                texts), or an iterator. A text that the corpus holds already is dropped, and counted.

        Raises:
            CorpusError: the name is none, or there is nothing to read.
        """
        return self.home.workspace.add(name, documents, self.settings.corpus)

    def list_corpora(self) -> list[StoredCorpus]:
        """The corpora of this home, by name."""
        return self.home.workspace.corpora()

    def corpus(self, name: str) -> StoredCorpus:
        """The corpus of this name, to be mined or asked. Raises ``CorpusError`` if there is none."""
        return self.home.workspace.corpus(name)

    # ---- the cheapest way

    def ask(
        self,
        question: str | Plan,
        corpus: Any,
        *,
        quality: float | None = None,
        trust: Trust | None = None,
        on_event: Progress | None = None,
    ) -> MiningResult:
        """Answer a question about every text of a corpus, the cheapest way that can be trusted.

        That is the answer given before; a proxy trained on these very questions; one trained on near questions, or
        none, if it agrees with the LLM on a few texts; the LLM, for few texts; or training one, as :meth:`mine` does.
        Of a stored corpus only parts that came since are computed.

        Args:
            question: what is wanted, in plain words, or a plan.
            corpus: a :meth:`corpus`, or what :meth:`mine` takes.
            quality: the agreement with the LLM that the answer is to reach (0 to 1): the lower end of the 95% interval,
                measured on texts that the proxy did not learn from. A proxy that does not reach it is not used; one
                that is trained for it is certified, and the LLM answers what it is not sure of (as with
                ``Targets(agreement=…)``). ``result.target`` says whether it was met, and by what that is known.
            trust: when a proxy that was not trained on the question is believed.
            on_event: told of progress, as in :meth:`mine`.

        Raises:
            FalconerError: with one sentence that names the fix.
        """
        emit: Progress = on_event or (lambda _: None)
        route = self._route(quality, trust, emit)
        source, plan = self._source(corpus), self._planned(question)
        return MiningResult(route(plan, source, emit))

    def costs(
        self, question: str | Plan, corpus: Any, *, quality: float | None = None, trust: Trust | None = None
    ) -> Decision:
        """What each way to answer a question costs, the one that :meth:`ask` would try first in front.

        Nothing is asked about texts, trained or run; for a question in words the LLM may be asked for its plan.
        """
        route = self._route(quality, trust, lambda _: None)
        return route.decide(self._planned(question), self._source(corpus))

    def _route(self, quality: float | None, trust: Trust | None, emit: Progress) -> Route:
        if quality is not None and not 0 < quality < 1:
            raise SettingsError(
                f"a quality of {quality:g} cannot be asked for; give a share between 0 and 1, such as 0.9"
            )
        annotated, targets = self.annotations is not None, self.settings.targets
        if quality is not None and not annotated:
            targets = targets.model_copy(update={"agreement": quality})

        def train(plan: Plan, source: Source, output: Path, budget: BudgetSettings) -> dict[str, Any]:
            one = self._with(corpus=source.settings, budget=budget, targets=targets)
            return one.mine(plan.instruction, source.paths, output, plan=plan, on_event=emit).summary

        return Route(self.home, self.llm, self.settings, trust or Trust(), train, annotated, quality)

    def _planned(self, question: str | Plan) -> Plan:
        if isinstance(question, Plan):
            return question
        known = (entry.plan for entry in self.home.registry.entries() if entry.plan)
        if plan := next((plan for plan in known if plan.instruction == question), None):
            return plan
        if self.llm is None:
            raise RunError("planning needs an LLM; make the Falconer with llm=…, or ask with a plan")
        with self.home.store() as store:
            run = f"plan-{digest(question, self.llm.name)}"
            budget = Budget(store, run, self.settings.budget, self.llm.price() is not None)
            return planned(self.home, self.llm, question, budget)

    def _source(self, corpus: Any) -> Source:
        if isinstance(corpus, StoredCorpus):
            return Source.of_stored(corpus)
        paths = [place(path) for path in self._paths(corpus)]
        return Source.of_files(paths[0].name, paths, self.settings.corpus)

    def _with(self, **settings: Any) -> Falconer:
        changed = self.settings.model_copy(update=settings)
        return Falconer(self.llm, annotations=self.annotations, home=self.home.folder, settings=changed)

    def train(self, plan: Plan, annotations: str | Path | Sequence[Annotation], **train: Any) -> Proxy:
        """A proxy for ``plan``, trained on all of ``annotations`` (a file or what was read from one).

        ``train`` is what else :func:`train_proxy` takes: ``unlabelled`` texts make it better.
        """
        told = annotations if isinstance(annotations, Sequence) and not isinstance(annotations, str) else None
        known = list(told) if told is not None else read_annotations(Path(annotations), plan)  # type: ignore[arg-type]
        options: dict[str, Any] = {"base": self.settings.base, "settings": self.settings.train}
        return train_proxy(plan, known, **{**options, "passage_chars": self.settings.passage_chars, **train})

    def _paths(self, corpus: Any) -> list[str]:
        if isinstance(corpus, str | Path | Url):
            corpus = [place(corpus)]
        if isinstance(corpus, list | tuple) and corpus and all(isinstance(c, Path | Url) for c in corpus):
            return [str(c.absolute()) for c in corpus]
        return [str(spool(corpus, self.home.corpora, self.settings.corpus))]


def _thread(state: dict[str, Any], falconer: Falconer) -> str:
    """One thread a job: the same call, on files that did not change, finds its checkpoints again."""
    from langchain_falconer.graph import file_digest

    asked = {k: v for k, v in state.items() if k not in ("output", "auto_approve")}
    settings = falconer.settings.model_dump(exclude={"budget"})
    files = [
        open_corpus_files(state["corpus"], falconer.settings.corpus).fingerprint,
        file_digest(state["annotations"]),
    ]
    return digest(asked, files, falconer.llm.name if falconer.llm else None, settings)


def _resumable(graph: Any, config: Any, state: dict[str, Any]) -> dict[str, Any] | None:
    """None to go on from the checkpoint of a run that was stopped; else the input of a new one.

    Every stage finds what it has already done in the home, so starting anew pays nothing twice either.
    """
    snapshot = graph.get_state(config)
    stopped = bool(snapshot.next) and not snapshot.interrupts
    same = all(snapshot.values.get(key) == state[key] for key in ("output", "auto_approve", "corpus"))
    return None if stopped and same else state
