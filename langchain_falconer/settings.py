"""Settings of every stage, as one tree with :class:`MineSettings` at its root.

Each object is frozen, refuses unknown fields and survives ``model_validate(model_dump())`` and JSON, so that settings
can travel through configuration files, LangGraph Studio and HTTP. Nothing here loads a model or a graph.
"""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from langchain_falconer.prompts import DEFAULT_PROMPTS, SECOND_PROMPTS, Prompts
from langchain_falconer.records import FrozenModel

DEFAULT_BASE = "falconer-small"
"""The checkpoint that ships with the package."""

Share = Annotated[float, Field(gt=0, lt=1)]
BackendName = Literal["auto", "onnx", "onnx-int8", "torch", "torch-bf16", "openvino", "openvino-bf16"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
EngineName = Literal["local", "ray"]
FormatName = Literal["auto", "json", "csv", "parquet", "excel", "text", "lines"]
RowUnit = Literal["text", "span"]
KeptColumns = Literal["all", "none"] | tuple[str, ...]


class Settings(FrozenModel):
    """Base of all settings: frozen, without unknown fields."""

    model_config = ConfigDict(extra="forbid")


class LLMSettings(Settings):
    """Settings of LLM calls.

    ``timeout_s``, ``temperature`` and ``max_output_tokens`` shape models named by a string; a model passed as an object
    keeps its own. The rest holds for both.

    Attributes:
        timeout_s: Seconds that one attempt may take. Default 120.
        max_retries: Attempts after the first, on rate limits, server errors and lost connections. Default 5.
        requests_per_second: Rate limit of attempts; ``None`` (default) is no limit.
        max_concurrency: Attempts that may be in flight at once. Default 4.
        temperature: Sampling temperature. Default 0, the most repeatable; left out where the model refuses it.
        max_output_tokens: Length in tokens at which a reply is cut off. Default 1,024; doubled, up to twice, for a
            reply that was cut off, as reasoning models need.
        usd_per_million_tokens: Price of input and of output tokens, for models that the price table lacks.
    """

    timeout_s: Annotated[float, Field(gt=0)] = 120
    max_retries: Annotated[int, Field(ge=0, le=100)] = 5
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    max_concurrency: Annotated[int, Field(ge=1)] = 4
    temperature: Annotated[float, Field(ge=0)] = 0.0
    max_output_tokens: Annotated[int, Field(ge=1)] = 1024
    usd_per_million_tokens: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] | None = None


class CorpusSettings(Settings):
    """Settings of reading a corpus.

    Attributes:
        text_column: Column that holds the text; ``None`` (default) detects it by its name.
        id_column: Column that holds the id (metadata key of LangChain documents); ``None`` (default) detects it by its
            name, ``""`` numbers the rows.
        on_bad_row: ``"fail"`` (default) raises at the first unreadable row, ``"record"`` keeps it as a ``BadRow``.
        max_row_bytes: Limit of one row in UTF-8 bytes; a longer one is a bad row and never held whole. Default 8 MiB.
        format: Format of the files; ``"auto"`` (default) is by their names. ``"text"`` is one text a file, ``"lines"``
            one text a line.
        encoding: Encoding of text files, such as ``cp1252`` or ``utf-16``; ``None`` (default) is UTF-8.
        delimiter: What separates the fields of CSV, one character; ``None`` (default) is that of ``,``, ``;``, ``|``
            and tab that the header has most of.
        keep: The other columns that result rows keep as ``metadata``: ``"all"`` (default), ``"none"``, or their names,
            as a list or with commas between them.
    """

    text_column: str | None = None
    id_column: str | None = None
    on_bad_row: Literal["fail", "record"] = "fail"
    max_row_bytes: Annotated[int, Field(ge=1)] = 8 * 2**20
    format: FormatName = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    keep: KeptColumns = "all"

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        try:
            name = codecs.lookup(encoding).name if encoding else "utf-8"
            "".encode(name)  # refuses codecs of bytes, such as hex
        except LookupError:
            raise ValueError(f"'{encoding}' is no encoding; use one such as cp1252, latin-1 or utf-16") from None
        return None if name == "utf-8" else name

    @field_validator("delimiter")
    @classmethod
    def _is_one_character(cls, delimiter: str | None) -> str | None:
        mark = {"tab": "\t", "\\t": "\t"}.get(delimiter or "", delimiter)
        if mark is not None and (len(mark) != 1 or not mark.isascii() or mark in '"\r\n'):
            raise ValueError(f"'{delimiter}' is no delimiter; use one ASCII character, or tab")
        return mark

    @field_validator("keep", mode="before")
    @classmethod
    def _split_names(cls, keep: Any) -> Any:
        if isinstance(keep, str) and keep not in ("all", "none"):
            return tuple(name for name in map(str.strip, keep.split(",")) if name)
        return keep


class AnnotateSettings(Settings):
    """Settings of annotation; concurrency is a setting of the LLM.

    Attributes:
        texts_per_call: Limit of texts in one call. More cost fewer tokens; small models prefer few. Default 4.
        chars_per_call: A call takes no further text once its texts have this many characters. Default 6,000.
        pilot: Texts that are answered in two wordings before the review of the plan; where the answers differ, the
            planner rewrites the question. None where that would be more than a tenth of the annotations. 0 is no
            pilot. Default 20.
        batch: Whether to annotate through OpenAI's Batch API: half the price, done within a day. Default ``False``.
        prompts: What the LLM reads besides the step and the texts.
        second_prompts: The other wording, in which some texts are asked about a second time.
        repeated: Share of the annotated texts, drawn uniformly, that the LLM answers a second time in the other
            wording: its agreement with itself bounds what any proxy can reach. 0 is none; none either where that would
            be fewer than ten texts. Default 0.1.
    """

    texts_per_call: Annotated[int, Field(ge=1, le=100)] = 4
    chars_per_call: Annotated[int, Field(ge=1)] = 6_000
    pilot: Annotated[int, Field(ge=0, le=100)] = 20
    batch: bool = False
    prompts: Prompts = DEFAULT_PROMPTS
    second_prompts: Prompts = SECOND_PROMPTS
    repeated: Annotated[float, Field(ge=0, lt=1)] = 0.1


class BudgetSettings(Settings):
    """Limits on what one job may spend on the LLM, all its invocations together; ``None`` (default) is no limit.

    Attributes:
        max_calls: LLM calls, retries included.
        max_tokens: Input and output tokens.
        max_usd: US dollars; needs an LLM with a price.
    """

    max_calls: Annotated[int, Field(ge=0)] | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    max_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class TrainSettings(Settings):
    """Settings of training. The defaults need no tuning.

    Attributes:
        seed: Seed of sampling, shuffling and initialisation. Default 0.
        batch_size: Texts per optimiser step. Default 16.
        epochs: Passes over the annotations; ``None`` (default) derives them from the number of annotations, so that few
            annotations are seen often enough.
        learning_rate: Peak learning rate of the encoder (AdamW). Default 2e-4.
        head_factor: Learning rate of the query heads as a multiple of the encoder's. Default 10.
        weight_decay: AdamW weight decay. Default 0.01.
        warmup: Share of the steps over which the learning rate rises linearly. Default 0.1.
        layers: Keep only the first layers of the base encoder; half of them run twice as fast and are somewhat less
            accurate. ``None`` (default) keeps all.
        frozen_layers: Lower layers of the base that stay as they are: what they make of a text is computed once.
            ``None`` (default) freezes a third of a pretrained base, and none of another.
        max_minutes: Minutes that training may take; where that is too short for all passes, there are fewer, and the
            self-training may be left out. Default 5; ``None`` is no limit, and the weights then depend on no clock.
        device: ``"auto"`` (default) is a GPU where torch finds one, else the CPU; or ``"cpu"``, ``"cuda"``, ``"mps"``.
        reset_head: Start from a randomly initialised head instead of one made from the words of the questions: plain
            fine-tuning, for comparison. Default ``False``.
    """

    seed: int = 0
    batch_size: int = Field(default=16, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    head_factor: float = Field(default=10.0, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    layers: int | None = Field(default=None, ge=1)
    frozen_layers: int | None = Field(default=None, ge=0)
    max_minutes: Annotated[float, Field(gt=0)] | None = 5.0
    device: DeviceName = "auto"
    reset_head: bool = False


class Metric(Settings):
    """The objective of a decision threshold: best F1, best recall at a precision, or best precision at a recall.

    Written ``f1``, ``precision:0.9`` or ``recall:0.95``; such a string is accepted wherever a metric is.

    Attributes:
        name: ``f1``, ``precision`` or ``recall``.
        at_least: The precision or recall to reach, in (0, 1]; ``None`` for F1.
    """

    name: Literal["f1", "precision", "recall"]
    at_least: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name, _, bound = value.partition(":")
        try:
            at_least = float(bound) if bound else None
        except ValueError:
            at_least = -1.0
        if name not in ("f1", "precision", "recall") or not (at_least is None or 0 < at_least <= 1):
            raise ValueError(f"'{value}' is not a metric; use f1, precision:P or recall:R, with P and R in (0, 1]")
        return {"name": name, "at_least": at_least}

    @model_validator(mode="after")
    def _has_bound(self) -> Metric:
        if (self.name == "f1") != (self.at_least is None):
            raise ValueError(f"'{self}' is not a metric; use f1, precision:P or recall:R, with P and R in (0, 1]")
        return self

    def __str__(self) -> str:
        return self.name if self.at_least is None else f"{self.name}:{self.at_least:g}"


class Targets(Settings):
    """Quality guarantees of a run against the LLM; texts on which the proxy is not confident enough go to the LLM.

    The error budget belongs to all targets together. Agreement and spans, which are about the same texts, use theirs as
    one; recall and precision have an even share each, and what a target does not need goes to the others. At least one
    share must be set.

    Attributes:
        agreement: Share of texts with exactly the same answers: labels, and spans at their offsets.
        recall: Share of the texts that match by the LLM's answers which match in the result.
        precision: Share of the texts that match in the result which match by the LLM's answers.
        spans: Share of texts in which no span that the LLM extracts is missed (one minus the missed-span rate).
        confidence: Probability that all guarantees hold together, over draws of the sample. Default 0.95.
        annotations: Texts annotated for the certificates alone, drawn uniformly over all rows. Default 300.
        escalate: Share of the texts that may go to the LLM because the proxy is not confident; others are marked
            uncertain. Default 0.1.
    """

    agreement: Share | None = None
    recall: Share | None = None
    precision: Share | None = None
    spans: Share | None = None
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    annotations: int = Field(default=300, ge=1)
    escalate: float = Field(default=0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _has_a_share(self) -> Targets:
        if not self.shares:
            raise ValueError("targets without a share guarantee nothing; add one, such as agreement=0.95")
        return self

    @property
    def shares(self) -> dict[str, float]:
        """The shares that are set, by the name of their target metric."""
        names = ("agreement", "recall", "precision", "spans")
        return {name: share for name in names if (share := getattr(self, name)) is not None}

    def confidence_of(self, n: int) -> float:
        """Return the confidence that ``n`` of the targets have by themselves, where the budget is split evenly."""
        return 1 - (1 - self.confidence) * n / len(self.shares)


class RunSettings(Settings):
    """Settings of a run over a corpus.

    Attributes:
        shard_texts: Texts per shard, fewer where they are long: the most work that a crash costs. Default 2,000.
        backend: What computes; ``"auto"`` (default) measures which installed one is fastest among those that decide
            like the float32 original.
        device: ``"auto"`` (default) is a GPU where torch finds one, else the CPU; or ``"cpu"``, ``"cuda"``, ``"mps"``.
        retry_failed: Compute rows with an error again, and keep all others of a finished run. Default ``False``.
        engine: ``"local"`` (default), or ``"ray"`` for the actors of a Ray cluster; the rows are the same.
        workers: Actors of the ``ray`` engine, one core each; ``None`` (default) is one per core that Ray has.
        row_unit: What is a row of an output for spreadsheets (.csv, .xlsx): a ``"text"`` (default) or a ``"span"``.
    """

    shard_texts: int = Field(default=2_000, ge=1)
    backend: BackendName = "auto"
    device: DeviceName = "auto"
    retry_failed: bool = False
    engine: EngineName = "local"
    workers: int | None = Field(default=None, ge=1)
    row_unit: RowUnit = "text"


class Trust(Settings):
    """When a proxy that was not trained on a question is accepted for it.

    Attributes:
        verify: Texts that the LLM answers first, to compare the proxy with. Default 30.
        agreement: Threshold for the lower end of the 95% interval of their agreement, and for the agreement of each
            step. Default 0.7.
        cosine: Least cosine similarity in [-1, 1] of a question to one that a proxy was trained on. Default 0.6.
    """

    verify: int = Field(default=30, ge=5)
    agreement: float = Field(default=0.7, gt=0, lt=1)
    cosine: float = Field(default=0.6, ge=-1, le=1)


class MineSettings(Settings):
    """Settings of the whole job. The defaults need no tuning; the settings of each stage hang below.

    Attributes:
        annotations: Texts that the LLM annotates in the first round. Default 300.
        held_out: Share of the annotated texts, drawn uniformly, that the proxy which is measured does not learn from.
            A third of them (*development*) serves all choices: start, early stopping, calibration, thresholds, backend;
            two thirds (*test*) serve nothing but the intervals. The proxy that runs then learns from them too. Default
            0.3: 210 training, 30 development and 60 test texts of 300.
        indexed: Passages of the corpus among which candidates for rare answers are sought, by embeddings that are kept
            in the home (768 bytes each); of a larger corpus a uniform draw of that many. 0 seeks none: all texts to
            learn from are uniform too. Default 1,000,000.
        unlabelled: Texts without annotations that self-training uses as well: better proxies, twice the training time.
            Default 1,000.
        targets: Guarantees for the rows; ``None`` (default) sets none.
        max_rounds: Limit of annotation rounds; ``None`` (default) is 4 with an agreement target, and 1 without. A later
            round annotates texts that the proxy doubts. None follows once the agreement on development texts reaches
            the target, or more of them are forecast to gain less than ``min_gain``.
        round_annotations: Texts per further annotation round. Default 100.
        min_gain: Agreement that 100 more LLM calls must be forecast to gain, for another round. Default 0.01.
        seed: Seed of all sampling. Default 0.
        base: Checkpoint that training starts from: a folder, a hub name or ``falconer-small`` (default).
        passage_chars: Longer texts are split into passages of at most this many characters. Default 1,200.
        metrics: Objective of the threshold of a yes/no or multi-label step, by step id. Chosen on development texts,
            without a guarantee (``targets`` give one).
        corpus: How the corpus is read.
        annotate: How texts are batched into LLM calls.
        budget: Limits on what the LLM may cost.
        train: How the proxy is trained.
        run: How the proxy is run over the corpus.
    """

    annotations: int = Field(default=300, ge=10)
    held_out: float = Field(default=0.3, gt=0, lt=1)
    indexed: int = Field(default=1_000_000, ge=0)
    unlabelled: int = Field(default=1_000, ge=0)
    targets: Targets | None = None
    max_rounds: Annotated[int, Field(ge=1)] | None = None
    round_annotations: int = Field(default=100, ge=1)
    min_gain: float = Field(default=0.01, ge=0, le=1)
    seed: int = 0
    base: str = DEFAULT_BASE
    passage_chars: int = Field(default=1_200, ge=50)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    corpus: CorpusSettings = CorpusSettings()
    annotate: AnnotateSettings = AnnotateSettings()
    budget: BudgetSettings = BudgetSettings()
    train: TrainSettings = TrainSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _both_parts_are_filled(self) -> MineSettings:
        held_out = round(self.annotations * self.held_out)
        if not 1 <= held_out < self.annotations:
            raise ValueError("held_out leaves no text to train or to measure on; raise annotations or change held_out")
        return self
