"""The summary of a run: counts, quality, cost, and how the strategy was chosen.

One frozen model for the node that builds it, the report, ``--json`` and the artifact of a tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from langchain_falconer.annotate import Accuracy
from langchain_falconer.annotate.noise import Suspect
from langchain_falconer.evaluate import LearningCurve, OperatingPoint, Quality
from langchain_falconer.execute import BackendChoice, Guarantee, RowCounts
from langchain_falconer.plan import Plan
from langchain_falconer.records import FrozenModel
from langchain_falconer.report.corrected_counts import Estimates
from langchain_falconer.report.findings import Findings

StrategyName = Literal["registry", "similar", "zero-shot", "llm", "train"]


class CorpusSummary(FrozenModel):
    """The corpus that was mined.

    Attributes:
        sources: Files or URLs, without credentials.
        documents: Rows, unreadable ones included.
        bad_rows: Unreadable rows.
        name: Name of a stored corpus; ``None`` for files.
        guessed_columns: Columns that were taken for the text by their names, nobody having named one.
    """

    sources: tuple[str, ...]
    documents: int
    bad_rows: int = 0
    name: str | None = None
    guessed_columns: tuple[str, ...] = ()


class AnnotationSummary(FrozenModel):
    """The annotations that a run rests on.

    Attributes:
        source: Name of the LLM, ``human``, or the source of a recording; ``None`` where nothing was annotated.
        train: Texts that the proxy was trained on.
        development: Held-out texts that choices were made on.
        test: Held-out texts that nothing but the quality was measured on.
        rounds: Annotation rounds.
        failed: Texts with a step that the LLM did not answer.
        rejected_quotes: Quotes that are not verbatim in their text.
        stopped: Why annotation ended early; ``None`` if it did not.
        self_agreement: How well the LLM agrees with itself on held-out texts that it was asked about a second time, in
            another wording: more than that cannot be expected of a proxy. ``None`` where nothing was asked twice.
        accuracy: The LLM's answers against a person's; ``None`` without corrections.
        likely_errors: Held-out annotations that are likely wrong, with the reasons; the likeliest first.
        review: File of annotations for a person to check, which ``--corrections`` reads; ``None`` if there is none.
    """

    source: str | None = None
    train: int = 0
    development: int = 0
    test: int = 0
    rounds: int = 0
    failed: int = 0
    rejected_quotes: int = 0
    stopped: str | None = None
    self_agreement: Quality | None = None
    accuracy: Accuracy | None = None
    likely_errors: tuple[Suspect, ...] = ()
    review: str | None = None


class Cost(FrozenModel):
    """The cost of the LLM.

    Attributes:
        calls: LLM calls, failed ones included.
        input_tokens: Tokens sent.
        output_tokens: Tokens received.
        usd: Price in US dollars; ``None`` where it is unknown.
        prices: Source of the price, with its date; ``None`` where it is unknown.
        tokens_for_every_text: Projected tokens of asking the LLM about every text; ``None`` where it is unknown.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    prices: str | None = None
    tokens_for_every_text: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens sent and received."""
        return self.input_tokens + self.output_tokens

    @property
    def share(self) -> float | None:
        """Tokens used as a share of those that asking about every text would take."""
        return self.tokens / self.tokens_for_every_text if self.tokens_for_every_text else None


class Pace(FrozenModel):
    """The throughput of the proxy beside that of the LLM.

    Attributes:
        texts_per_second: Throughput of the proxy; ``None`` where too few texts were computed to measure it.
        seconds: Time that the proxy ran.
        llm_seconds_per_text: Time of the LLM per text, measured during annotation.
        ratio: Throughput of the proxy over that of the LLM.
    """

    texts_per_second: float | None = None
    seconds: float | None = None
    llm_seconds_per_text: float | None = None
    ratio: float | None = None


class TrainingSummary(FrozenModel):
    """The training of the proxy.

    Attributes:
        loss: Mean loss per epoch.
        seconds: Duration of the training.
        steps: Optimiser steps.
        examples: Annotated passages.
        unlabelled: Texts without annotations that self-training used.
        selected_after: Share of the steps after which the network was selected, per network; less than 1 where
            development texts scored worse after the later steps.
        planned: Share of the steps that there was time for, per network; 0 where a second one was left out.
        is_base: Whether the untrained base was selected, because training made it worse on development texts.
        on_all: Whether the proxy that runs learned from the held-out texts too, once they had measured the one
            before it: the quality is of that one.
        operating_points: Threshold per step that has a metric; ``None`` where no threshold reaches it.
    """

    loss: tuple[float, ...] = ()
    seconds: float = 0.0
    steps: int = 0
    examples: int = 0
    unlabelled: int = 0
    selected_after: tuple[float, ...] = (1.0,)
    planned: tuple[float, ...] = (1.0,)
    is_base: bool = False
    on_all: bool = False
    operating_points: dict[str, OperatingPoint | None] = Field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> TrainingSummary:
        """Read the training from the manifest of a proxy."""
        training, data = manifest["training"], manifest["data"]
        points = {
            step: OperatingPoint.model_validate(point) if "threshold" in point else None
            for step, point in manifest.get("operating_points", {}).items()
        }
        return cls.model_validate({**training, "unlabelled": data["unlabelled"], "operating_points": points})


class Strategy(FrozenModel):
    """One way to answer a question: what it costs, and why it was chosen or not.

    Attributes:
        name: ``registry`` (a proxy trained on these questions), ``similar`` (one trained on similar questions),
            ``zero-shot`` (the untrained base), ``llm`` (every text) or ``train``.
        texts: Texts that the LLM still has to answer.
        tokens: Their tokens.
        usd: Their price; ``None`` where it is unknown.
        seconds: Duration until the last row.
        reason: Why the strategy was chosen or not.
        proxy: Name of the proxy.
    """

    name: StrategyName
    texts: int
    tokens: int
    usd: float | None
    seconds: float
    reason: str = ""
    proxy: str | None = None

    def because(self, reason: str) -> Strategy:
        """Return the strategy with a reason."""
        return self.model_copy(update={"reason": reason})


class BreakEven(FrozenModel):
    """The corpus size from which training costs less than asking the LLM about every text.

    Attributes:
        texts_by_tokens: In tokens.
        texts_by_seconds: In time; ``None`` where it never does.
    """

    texts_by_tokens: int
    texts_by_seconds: int | None


class Decision(FrozenModel):
    """How a strategy was chosen.

    Attributes:
        chosen: The strategy.
        others: The others, with their reasons.
        break_even: The corpus size from which training pays.
        prices: Source of the prices, with their date; ``None`` where they are unknown.
    """

    chosen: Strategy
    others: tuple[Strategy, ...]
    break_even: BreakEven
    prices: str | None = None


class QualityTarget(FrozenModel):
    """A requested agreement with the LLM.

    Attributes:
        quality: The agreement that was requested, in (0, 1).
        met: Whether the result is known to reach it.
        reason: The evidence.
    """

    quality: float
    met: bool
    reason: str


class RunSummary(FrozenModel):
    """The outcome of :meth:`Falconer.mine` or :meth:`Falconer.ask`.

    Attributes:
        run_id: Id of the job, 16 hexadecimal digits.
        instruction: The instruction in the words of the user.
        plan: The plan that was run.
        corpus: The corpus.
        annotations: The annotations.
        quality: Agreement with the annotator on test texts, with 95% intervals; ``None`` where it was not measured.
        learning_curve: Quality against annotations and LLM calls, round by round, and why no further round followed.
        guarantee: Certificates of the targets; ``None`` without targets.
        cost: What the LLM cost.
        pace: Throughput.
        rows: Counts over the result rows.
        estimates: The same counts corrected by uniformly drawn annotations, in all and by group.
        training: The training; ``None`` where nothing was trained.
        backend: The inference backend; ``None`` where the LLM answered every text.
        seconds: Duration per stage.
        output: File or URL of the rows.
        exact_rows: The same rows in full, where ``output`` is for spreadsheets; else ``None``.
        report: The HTML report; ``None`` where none was written.
        proxy: Folder of the proxy; ``None`` where no trained proxy decided.
        messages: Warnings and advice, one sentence each.
        result: Id that a result of ``ask`` is stored under; ``None`` of a plain ``mine``.
        decision: How ``ask`` chose; ``None`` of a plain ``mine``.
        target: The requested quality; ``None`` where none was requested.
        computed: Rows that were computed rather than read from an earlier result.
        findings: Most frequent values, their sources and quotes; ``None`` of a plain ``mine``.
        unanswered: Rows that the LLM should have answered and did not; the untrained proxy decided them.
        cached: Whether the whole result was read from an earlier, identical question.
    """

    run_id: str
    instruction: str
    plan: Plan
    corpus: CorpusSummary
    annotations: AnnotationSummary
    quality: Quality | None = None
    learning_curve: LearningCurve = LearningCurve()
    guarantee: Guarantee | None = None
    cost: Cost
    pace: Pace
    rows: RowCounts
    estimates: Estimates | None = None
    training: TrainingSummary | None = None
    backend: BackendChoice | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    output: str
    exact_rows: str | None = None
    report: str | None = None
    proxy: str | None = None
    messages: tuple[str, ...] = ()
    result: str | None = None
    decision: Decision | None = None
    target: QualityTarget | None = None
    computed: int | None = None
    findings: Findings | None = None
    unanswered: int = 0
    cached: bool = False

    @property
    def is_untrained(self) -> bool:
        """Whether the untrained model decided every row, and nothing verified it."""
        return self.decision is not None and self.decision.chosen.name == "zero-shot" and self.quality is None

    def without_texts(self) -> RunSummary:
        """Return the summary without mistakes and doubtful annotations, which hold texts: for the state of a graph."""
        quality = self.quality.without_texts() if self.quality else None
        annotations = self.annotations.model_copy(update={"likely_errors": ()})
        return self.model_copy(update={"quality": quality, "annotations": annotations})
