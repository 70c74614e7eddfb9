"""The facade: one object for the whole job."""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config, set_config_context
from typing_extensions import TypedDict

from langchain_falconer.annotate import Annotation, Budget, read_annotations
from langchain_falconer.cancellation import on_loop, run_in_thread
from langchain_falconer.corpus import (
    Dataset,
    IngestReport,
    Place,
    StoredCorpus,
    Url,
    as_place,
    checked_texts,
    files_of,
    listed_texts,
    materialize,
    stored_settings,
)
from langchain_falconer.errors import AnnotationError, PlannerError, RunError, SettingsError
from langchain_falconer.evaluate import Quality
from langchain_falconer.execute import FlatTable, Guarantee, check_output, read_rows
from langchain_falconer.files import digest, file_digest, read_json
from langchain_falconer.graph import (
    AskOptions,
    FalconerInput,
    Home,
    Job,
    NodeContext,
    ProgressEvent,
    Review,
    ReviewRequest,
    Router,
    create_falconer_graph,
)
from langchain_falconer.llm import LLM
from langchain_falconer.model import Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.records import JsonObject, ResultRow
from langchain_falconer.report import (
    NO_EVIDENCE,
    Cost,
    Decision,
    Estimates,
    Evidence,
    QualityTarget,
    RunSummary,
    notebook_html,
    render_html,
)
from langchain_falconer.settings import LLMSettings, MineSettings, Trust
from langchain_falconer.train import train_proxy

if TYPE_CHECKING:
    import pandas as pd
    from langchain_core.language_models import BaseChatModel

_Text = Document | Mapping[str, object]
CorpusLike = str | Place | Sequence[str | Place] | StoredCorpus | Iterable[_Text] | BaseLoader
"""What can be mined: a ``str``, ``Path`` or :class:`Url` is a file or folder, a list of them files, read one after the
other; a :class:`StoredCorpus` is one that a home holds; LangChain documents, mappings (a Hugging Face dataset among
them) and loaders hold texts. Strings are never texts: those are passed as ``texts=[…]``."""
ProgressCallback = Callable[[ProgressEvent], None]
"""Receives progress events."""
Reviewer = Callable[[ReviewRequest], Review]
"""Receives the plan and returns a :class:`Review`."""
AsyncProgressCallback = Callable[[ProgressEvent], Awaitable[None] | None]
AsyncReviewer = Callable[[ReviewRequest], Awaitable[Review] | Review]
"""As :data:`ProgressCallback` and :data:`Reviewer`, called on the event loop; they may be coroutine functions."""


@dataclass(frozen=True)
class MiningResult:
    """The result of :meth:`Falconer.mine` or :meth:`Falconer.ask`: rows on disk, and a typed summary.

    Attributes:
        summary: Counts, quality, cost, and how the answer came about.
    """

    summary: RunSummary
    _addresses: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def output(self) -> Place:
        """The file of result rows, or its URL."""
        return as_place(self.summary.output, self._addresses)

    @property
    def plan(self) -> Plan:
        """The plan that was run."""
        return self.summary.plan

    @property
    def cost(self) -> Cost:
        """Calls, tokens and price of the LLM, and the projected cost of asking it about every text."""
        return self.summary.cost

    @property
    def quality(self) -> Quality | None:
        """Agreement with the annotator on test texts, with 95% intervals; None where it was not measured."""
        return self.summary.quality

    @property
    def estimates(self) -> Estimates | None:
        """The counts over the rows, corrected by uniformly drawn annotations, with 95% intervals; in all and by group.

        Such as ``result.estimates.matched``, ``.labels["topic"]["sport"]``, ``.spans["price"].spans``, and
        ``.groups["month"].groups["2026-01"].matched``. Where there is no estimate, its ``reason`` says why.
        """
        return self.summary.estimates

    @property
    def guarantee(self) -> Guarantee | None:
        """The certificates of the targets; None without targets."""
        return self.summary.guarantee

    @property
    def result(self) -> str | None:
        """The id that a result of :meth:`Falconer.ask` is stored under; None of a plain :meth:`Falconer.mine`."""
        return self.summary.result

    @property
    def decision(self) -> Decision | None:
        """The strategy that :meth:`Falconer.ask` chose, and the others; None of a plain :meth:`Falconer.mine`."""
        return self.summary.decision

    @property
    def target(self) -> QualityTarget | None:
        """The quality that was requested of :meth:`Falconer.ask`, and whether it is met; None if none was."""
        return self.summary.target

    @property
    def proxy(self) -> Proxy:
        """The trained proxy. Raises ``RunError`` where none was trained or found for the answer."""
        if not self.summary.proxy:
            raise RunError("no trained proxy decided this answer; mine() trains one")
        return Proxy.load(self.summary.proxy)

    def rows(self) -> Iterator[ResultRow]:
        """Yield the result rows, one per text, in corpus order."""
        return read_rows(as_place(self.summary.exact_rows or self.summary.output, self._addresses))

    def to_pandas(self, *, spans: bool = False) -> pd.DataFrame:
        """Return the rows as a flat data frame (extra ``pandas``), as an output in CSV has them.

        Args:
            spans: One row a span, rather than one a text. Default ``False``.

        Returns:
            The columns of :class:`~langchain_falconer.execute.FlatTable`: of each step its value and its score, and
            those of the input.
        """
        import pandas as pd

        table = FlatTable(self.plan, self.rows(), "span" if spans else "text")
        return pd.DataFrame((cells for row in self.rows() for cells in table.flatten(row)), columns=table.columns)

    def _repr_html_(self) -> str:
        """Return the result in brief, for a notebook."""
        return notebook_html(self.summary, self.rows())

    def report(self, path: str | Path) -> Path:
        """Write the HTML report to ``path``."""
        evidence = Evidence.of(Path(self.summary.report).parent) if self.summary.report else NO_EVIDENCE
        render_html(self.summary, self.rows(), Path(path), evidence=evidence)
        return Path(path)


class MiningRequest(TypedDict, total=False):
    """The input of :meth:`Falconer.as_runnable`: arguments of :meth:`Falconer.mine` or of :meth:`Falconer.ask`."""

    instruction: str
    """Mine."""
    question: str | Plan | Mapping[str, object]
    """Ask."""
    corpus: CorpusLike
    texts: Sequence[str]
    output: str | Place
    plan: Plan | Mapping[str, object]
    quality: float
    trust: Trust
    refresh: bool


class Falconer:
    """Plans an instruction, has a few hundred texts annotated, trains a proxy and runs it over a whole corpus.

    Args:
        llm: Plans and annotates: any ``BaseChatModel``, or a string such as ``"openai:gpt-4.1-mini"``.
        annotations: A file of your own labels (JSONL); with it, and a plan, no LLM is needed.
        corrections: A file of your corrections of the LLM's answers (JSONL, as ``annotations``, for single steps too).
            They stand in for its answers from now on in this home, and show how often it is right.
        home: Folder of annotations, proxies and runs; ``$FALCONER_HOME`` or ``~/.falconer`` by default.
        settings: How to mine.
        llm_settings: Timeout, retries, rate, concurrency and price of an ``llm`` that is not an :class:`LLM` yet.

    Raises:
        LLMError: The LLM cannot be set up.
        RunError: The home is not a folder.
        SettingsError: ``settings`` is something else.
    """

    def __init__(
        self,
        llm: LLM | BaseChatModel | str | None = None,
        *,
        annotations: str | Path | None = None,
        corrections: str | Path | None = None,
        home: str | Path | None = None,
        settings: MineSettings | None = None,
        llm_settings: LLMSettings | None = None,
    ) -> None:
        self.llm = llm if llm is None or isinstance(llm, LLM) else LLM(llm, llm_settings)
        self.annotations = annotations
        self.corrections = corrections
        self.home = Home.at(home)
        if not isinstance(settings, MineSettings | None):
            raise SettingsError(
                "settings is not a MineSettings; pass MineSettings(…), such as MineSettings(annotations=200)"
            )
        self.settings = settings or MineSettings()

    # ---- mining

    def plan(self, instruction: str) -> Plan:
        """Return the LLM's plan for an instruction: the one that :meth:`mine` will run.

        :meth:`ask` runs it too, unless a proxy of the home was trained for the same instruction: then it runs its plan.

        Raises:
            PlannerError: There is no LLM, or it gave no valid plan.
            BudgetError: The budget is used up.
        """
        if self.llm is None:
            raise PlannerError("planning needs an LLM; make the Falconer with llm=…")
        with self.home.store() as store:
            job = f"plan-{digest(instruction, self.llm.name)}"  # of its own: planning here belongs to no run
            budget = Budget(store, job, self.settings.budget, self.llm.price() is not None)
            return self.home.plan(self.llm, instruction, budget)

    def mine(
        self,
        instruction: str,
        corpus: CorpusLike | None = None,
        output: str | Place | None = None,
        *,
        texts: Sequence[str] | None = None,
        plan: Plan | Mapping[str, object] | None = None,
        on_event: ProgressCallback | None = None,
        reviewer: Reviewer | None = None,
        recorded: str | None = None,
    ) -> MiningResult:
        """Mine a corpus: plan, annotate a few texts, train a proxy and run it over everything.

        The same call again resumes where an earlier one was stopped, and pays nothing twice; of two processes that make
        it at once, the second waits for the first.

        Args:
            instruction: What is wanted, in plain words.
            corpus: A file, folder or URL (``str`` or ``Path``), or a list of them; a :meth:`corpus` of this home; a
                list of LangChain ``Document`` or of mappings, a ``BaseLoader``, or a Hugging Face dataset.
            output: ``.jsonl``, ``.parquet``, ``.duckdb``, ``.csv`` or ``.xlsx``, a file or (not DuckDB) a URL; by
                default in the home.
            texts: The texts themselves, in place of ``corpus``.
            plan: A plan, or its JSON data; without one the LLM writes it.
            on_event: Receives progress events.
            reviewer: Receives the plan before anything is annotated; without one the plan is approved.
            recorded: Without an LLM, the source in the annotation store whose recorded answers are used.

        Returns:
            The rows and their summary.

        Raises:
            PlanError: The plan is not valid.
            SettingsError: Nothing can annotate the texts, or settings contradict each other.
            CorpusError: The corpus cannot be read.
            LLMError: The LLM cannot be reached or gave no usable answers.
            BudgetError: The budget leaves too little to train on.
            RunError: The plan was rejected, or the output cannot be written.
        """
        if output:
            check_output(as_place(output), self.settings.run.row_unit)
        state = self._input(instruction, corpus, texts, plan)
        state["output"] = str(as_place(output).absolute()) if output else None
        state["auto_approve"] = reviewer is None
        return self._run(state, corpus, output=output, on_event=on_event, reviewer=reviewer, recorded=recorded)

    async def amine(
        self,
        instruction: str,
        corpus: CorpusLike | None = None,
        output: str | Place | None = None,
        *,
        texts: Sequence[str] | None = None,
        plan: Plan | Mapping[str, object] | None = None,
        on_event: AsyncProgressCallback | None = None,
        reviewer: AsyncReviewer | None = None,
        recorded: str | None = None,
    ) -> MiningResult:
        """As :meth:`mine`, for an event loop: the LLM is awaited on it, everything else works in a thread.

        ``on_event`` and ``reviewer`` are called on the loop, and may be coroutine functions; the work waits for them.
        A cancelled task ends within a second; the same call again resumes, and pays for no answer twice.
        """
        mine = partial(self.mine, texts=texts, plan=plan, recorded=recorded)
        callbacks: Any = {"on_event": on_loop(on_event), "reviewer": on_loop(reviewer)}
        return await run_in_thread(lambda: mine(instruction, corpus, output, **callbacks))

    async def astream(
        self,
        instruction: str,
        corpus: CorpusLike | None = None,
        output: str | Place | None = None,
        *,
        texts: Sequence[str] | None = None,
        plan: Plan | Mapping[str, object] | None = None,
        reviewer: AsyncReviewer | None = None,
        recorded: str | None = None,
    ) -> AsyncIterator[ProgressEvent | MiningResult]:
        """Mine, and yield the progress events of the stages as they come, then the result.

        The work waits for a consumer that is slow, and is cancelled when the iterator is closed.
        """
        ready: asyncio.Queue[ProgressEvent] = asyncio.Queue(1)
        options: Any = {"texts": texts, "plan": plan, "reviewer": reviewer, "recorded": recorded}
        task = asyncio.create_task(self.amine(instruction, corpus, output, on_event=ready.put, **options))
        try:
            while not (task.done() and ready.empty()):
                event = asyncio.create_task(ready.get())
                await asyncio.wait({event, task}, return_when=asyncio.FIRST_COMPLETED)
                if event.done():
                    yield event.result()
                else:
                    event.cancel()
            yield task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    # ---- asking

    def ask(
        self,
        question: str | Plan | Mapping[str, object],
        corpus: CorpusLike | None = None,
        *,
        texts: Sequence[str] | None = None,
        quality: float | None = None,
        trust: Trust | None = None,
        refresh: bool = False,
        on_event: ProgressCallback | None = None,
    ) -> MiningResult:
        """Answer a question about every text of a corpus with the cheapest strategy that can be trusted.

        That is an earlier answer to the same question; a proxy trained on these very questions; one trained on similar
        questions, or the untrained base, if it agrees with the LLM on a few texts; the LLM, for few texts; or training
        one, as :meth:`mine` does. Of a stored corpus only new partitions are computed.

        Args:
            question: What is wanted, in plain words, or a plan (or its JSON data).
            corpus: What :meth:`mine` takes.
            texts: The texts themselves, in place of ``corpus``.
            quality: Agreement with the LLM that the answer must reach, in (0, 1): the lower end of the 95% interval,
                measured on texts that chose nothing. A proxy that does not reach it is not used; one that is trained
                for it is certified, and the LLM answers where it is not confident (as with ``Targets(agreement=…)``).
                ``result.target`` tells whether it is met, and by what that is known.
            trust: When a proxy that was not trained on the question is accepted.
            refresh: Compute the answer again, although the same question was answered before.
            on_event: Receives progress events.

        Returns:
            The rows and their summary; ``decision`` tells the strategy.

        Raises:
            RunError: No proxy answers the question and there is no LLM.
            FalconerError: As :meth:`mine` raises.
        """
        plan = None if isinstance(question, str) else Plan.parse(question)
        state = self._input(plan.instruction if plan else str(question), corpus, texts, plan)
        state["ask"] = _ask_options(quality, trust, refresh).model_dump(mode="json")
        if isinstance(corpus, StoredCorpus):
            state["dataset"] = corpus.to_dict()
        return self._run(state, corpus, on_event=on_event)

    async def aask(
        self,
        question: str | Plan | Mapping[str, object],
        corpus: CorpusLike | None = None,
        *,
        texts: Sequence[str] | None = None,
        quality: float | None = None,
        trust: Trust | None = None,
        refresh: bool = False,
        on_event: AsyncProgressCallback | None = None,
    ) -> MiningResult:
        """As :meth:`ask`, for an event loop; see :meth:`amine`."""
        ask = partial(self.ask, texts=texts, quality=quality, trust=trust, refresh=refresh)
        callbacks: Any = {"on_event": on_loop(on_event)}
        return await run_in_thread(lambda: ask(question, corpus, **callbacks))

    def estimate(
        self,
        question: str | Plan | Mapping[str, object],
        corpus: CorpusLike | None = None,
        *,
        texts: Sequence[str] | None = None,
        quality: float | None = None,
        trust: Trust | None = None,
    ) -> Decision:
        """Estimate what each strategy for a question costs, the one that :meth:`ask` would try first in front.

        Nothing is asked about texts, trained or run; for a question in words the LLM may be asked for its plan.
        """
        settings = self._settings_for(corpus)
        if isinstance(corpus, StoredCorpus):
            dataset: Dataset = corpus
        else:
            dataset = Dataset.of_files(self._places(corpus, texts), settings.corpus)
        earlier = self.home.registry.plan_for(question) if isinstance(question, str) else None
        plan = earlier or (self.plan(question) if isinstance(question, str) else Plan.parse(question))
        context, options = NodeContext(self.home, self.llm, settings), _ask_options(quality, trust, refresh=False)
        return Router(context, plan, dataset, options, self.annotations is not None).decide()

    # ---- the workspace

    def add_documents(
        self, name: str, documents: CorpusLike | None = None, *, texts: Sequence[str] | None = None
    ) -> IngestReport:
        """Add documents to a corpus of this home, which is made if there is none of this name.

        Args:
            name: Lower-case letters, digits, ``_`` and ``-``.
            documents: What :meth:`mine` takes as corpus (such as the ``Document`` list of a retriever or search tool),
                or an iterator. A text that the corpus holds already is dropped, and counted.
            texts: The texts themselves, in place of ``documents``.

        Raises:
            CorpusError: The name is not valid, or there is nothing to read.
        """
        source = _one_of(documents, texts, "documents")
        return self.home.workspace.add(name, source, self.settings.corpus, is_text=texts is not None)

    def list_corpora(self) -> list[StoredCorpus]:
        """Return the corpora of this home, by name."""
        return self.home.workspace.corpora()

    def corpus(self, name: str) -> StoredCorpus:
        """Return the corpus of this name, to be mined or asked. Raises ``CorpusError`` if there is none."""
        return self.home.workspace.corpus(name)

    # ---- training

    def train(
        self,
        plan: Plan,
        annotations: str | Path | Sequence[Annotation],
        *,
        unlabelled: Sequence[str] = (),
        development: Sequence[Annotation] = (),
        on_step: Callable[[int, int, float], None] | None = None,
    ) -> Proxy:
        """Train a proxy for ``plan`` on all of ``annotations``.

        Args:
            plan: The questions.
            annotations: A file of annotations (JSONL), or annotations.
            unlabelled: Texts without annotations; self-training on them makes a better proxy in twice the time.
            development: Annotations that are not trained on and select the checkpoint.
            on_step: Receives step, number of steps and loss.

        Raises:
            AnnotationError: The file cannot be read.
            ProxyError: There is nothing to train on, or the base cannot be loaded.
        """
        if isinstance(annotations, str | Path):
            annotations = read_annotations(Path(annotations), plan)
        elif not all(isinstance(one, Annotation) for one in annotations):
            raise AnnotationError(
                "annotations holds something else than Annotation objects; pass these, or a file (JSONL)"
            )
        return train_proxy(
            plan,
            annotations,
            base=self.settings.base,
            unlabelled=checked_texts(unlabelled),
            development=development,
            settings=self.settings.train,
            passage_chars=self.settings.passage_chars,
            on_step=on_step,
        )

    # ---- in a chain

    def as_runnable(self) -> Runnable[MiningRequest, MiningResult]:
        """Return this Falconer as a LangChain ``Runnable`` from a request to its result.

        A request with an ``instruction`` is mined, one with a ``question`` asked; see :class:`MiningRequest`.
        """
        return _FalconerRunnable(self)

    # ---- inside

    def _run(
        self,
        state: FalconerInput,
        corpus: CorpusLike | None,
        *,
        output: str | Place | None = None,
        on_event: ProgressCallback | None = None,
        reviewer: Reviewer | None = None,
        recorded: str | None = None,
    ) -> MiningResult:
        """Run the graph on the job's own thread; it resumes from the checkpoint of a run that was stopped."""
        from langgraph.checkpoint.sqlite import SqliteSaver

        # The whole addresses of URLs, by what is shown of them, travel beside the state and never in it.
        places = [*(files_of(corpus) or ()), *([as_place(output)] if output else [])]
        addresses = {str(place): place.address for place in places if isinstance(place, Url)}
        settings = self._settings_for(corpus)
        context = NodeContext(self.home, self.llm, settings, recorded, addresses=addresses)
        job = context.job_id(state)
        connection = sqlite3.connect(self.home.checkpoints, check_same_thread=False, timeout=60)
        # The checkpoints of a thread are for one at a time.
        with closing(connection), context.locked(f"{job}-thread"):
            graph = create_falconer_graph(
                self.llm,
                home=self.home.folder,
                settings=settings,
                recorded=recorded,
                addresses=addresses,
                checkpointer=SqliteSaver(connection),
            )
            # Corrections that come after a run was stopped are a new thread: what was done is found in the home.
            thread = f"{job}-{file_digest(state['corrections'])}" if state.get("corrections") else job
            summary = _stream(graph, {"configurable": {"thread_id": thread}}, state, on_event, reviewer)
        if "rejected" in summary:
            raise RunError(f"the plan was rejected ({summary['rejected']}); word it differently, or pass a plan")
        result = RunSummary.model_validate(summary)
        if result.report:  # the state has no words of texts; they are in the file of the run
            run = Path(result.report).parent
            result = RunSummary.model_validate(read_json(run / "summary.json"))
            asked = {key: state[key] for key in ("instruction", "corpus", "output", "plan", "annotations")}
            llm = self.llm.name if self.llm else None
            Job.model_validate({**asked, "llm": llm, "recorded": recorded, "settings": settings}).save(run)
        return MiningResult(result, addresses)

    def _input(
        self,
        instruction: str,
        corpus: CorpusLike | None,
        texts: Sequence[str] | None,
        plan: Plan | Mapping[str, object] | None,
    ) -> FalconerInput:
        return {
            "instruction": instruction,
            "corpus": [str(place) for place in self._places(corpus, texts)],
            "output": None,
            "plan": Plan.parse(plan).to_dict() if plan is not None else None,
            "annotations": str(Path(self.annotations).absolute()) if self.annotations else None,
            "corrections": str(Path(self.corrections).absolute()) if self.corrections else None,
            "auto_approve": True,
            "ask": None,
            "dataset": None,
        }

    def _places(self, corpus: CorpusLike | None, texts: Sequence[str] | None) -> list[Place]:
        """The files of a corpus; what comes as objects is written to the home."""
        source = _one_of(corpus, texts, "corpus")
        if isinstance(source, StoredCorpus):
            return list(source.paths)
        if texts is None and (places := files_of(source)) is not None:
            return [place.absolute() for place in places]
        return [materialize(source, self.home.corpora, self.settings.corpus, is_text=texts is not None)]

    def _settings_for(self, corpus: object) -> MineSettings:
        if isinstance(corpus, StoredCorpus):
            return self.settings.model_copy(update={"corpus": stored_settings()})
        if corpus is not None and files_of(corpus) is not None:
            return self.settings
        # What came as objects is read from the file that it was written to.
        as_written = {"text_column": "text", "id_column": "id", "format": "auto", "encoding": None}
        written = self.settings.corpus.model_copy(update=as_written)
        return self.settings.model_copy(update={"corpus": written})


class _FalconerRunnable(Runnable[MiningRequest, MiningResult]):
    """A Falconer in a chain; the graph beneath it is traced, and no text of a request."""

    def __init__(self, falconer: Falconer) -> None:
        self.name = "falconer"
        self._falconer = falconer

    def invoke(self, input: MiningRequest, config: RunnableConfig | None = None, **kwargs: Any) -> MiningResult:  # noqa: A002
        answer: Any = self._falconer.ask if "question" in input else self._falconer.mine
        try:
            arguments = inspect.signature(answer).bind(**input)
        except TypeError as error:
            raise SettingsError(
                f"the request cannot be answered ({error}); pass instruction or question, and corpus or texts"
            ) from None
        with set_config_context(ensure_config(config)) as context:
            result: MiningResult = context.run(answer, *arguments.args, **arguments.kwargs)
        return result

    async def ainvoke(self, input: MiningRequest, config: RunnableConfig | None = None, **kwargs: Any) -> MiningResult:  # noqa: A002
        return await run_in_thread(lambda: self.invoke(input, config))


def _ask_options(quality: float | None, trust: Trust | None, refresh: bool) -> AskOptions:
    if quality is not None and not (isinstance(quality, int | float) and 0 < quality < 1):
        raise SettingsError(
            f"a quality of {quality!r} cannot be reached; request a share between 0 and 1, such as 0.9", field="quality"
        )
    return AskOptions(quality=quality, trust=trust or Trust(), refresh=refresh)


def _one_of(source: CorpusLike | None, texts: Sequence[str] | None, name: str) -> Any:
    if (source is None) == (texts is None):
        raise SettingsError(f"pass either {name} (files or documents) or texts", field=name)
    return source if texts is None else listed_texts(texts)


def _stream(
    graph: Any,
    config: Mapping[str, object],
    state: FalconerInput,
    on_event: ProgressCallback | None,
    reviewer: Reviewer | None,
) -> JsonObject:
    """Run a graph to its end, with the reviewer's answers to its interrupts; returns the summary."""
    from langgraph.types import Command

    snapshot = graph.get_state(config)
    # The checkpoint of the same job is resumed if it was stopped. Every node finds what it has already done in the
    # home, so that starting anew pays nothing twice either.
    is_same = all(snapshot.values.get(key) == state.get(key) for key in ("output", "auto_approve", "corpus"))
    entry: Any = None if snapshot.next and not snapshot.interrupts and is_same else state
    while True:
        for mode, event in graph.stream(entry, config, stream_mode=["custom", "updates"], durability="sync"):
            if mode == "custom" and on_event:
                on_event(event)
        snapshot = graph.get_state(config)
        if not snapshot.interrupts:
            summary: JsonObject = snapshot.values["summary"]
            return summary
        if reviewer is None:
            raise RunError("the plan waits for a review; pass a reviewer")
        entry = Command(resume=reviewer(snapshot.interrupts[0].value).model_dump())
