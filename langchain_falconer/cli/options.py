"""Arguments and options that several commands share, in groups, and the settings that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from langchain_falconer.errors import SettingsError, first_fault
from langchain_falconer.settings import DEFAULT_BASE, LLMSettings, MineSettings

if TYPE_CHECKING:
    from langchain_falconer.llm import LLM

_llm = partial(typer.Option, rich_help_panel="LLM")
_budget = partial(typer.Option, rich_help_panel="Budget")
_targets = partial(typer.Option, rich_help_panel="Guarantees")
_input = partial(typer.Option, rich_help_panel="Input")
_training = partial(typer.Option, rich_help_panel="Training")
_run = partial(typer.Option, rich_help_panel="Run")


class Engine(str, Enum):
    """The engine that computes the shards of a run."""

    local = "local"
    ray = "ray"


class BadRows(str, Enum):
    """Treatment of rows that cannot be read."""

    fail = "fail"
    record = "record"


Home = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Folder of annotations, proxies and runs.", show_default="$FALCONER_HOME or ~/.falconer"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Corpora = Annotated[
    list[str],
    typer.Argument(help="Files, folders or URLs (s3://… and others): JSONL, CSV, Parquet, text, gzip of these."),
]
Output = Annotated[
    str,
    typer.Option("--output", "-o", help="File or URL of the rows: .jsonl, .parquet or .duckdb (one table, rows)."),
]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="A plan (JSON) to use instead of asking the LLM for one.")
]
AnnotationsFile = Annotated[
    Path | None, typer.Option("--annotations", help="Your own labels (JSONL); no LLM is asked about texts.")
]
Data = Annotated[Path, typer.Option("--data", help="Folder of the datasets.")]
Sets = Annotated[str, typer.Option("--sets", help="Only these datasets, such as snips,sst.", show_default="all")]
Rows = Annotated[int, typer.Option("--rows", min=10, help="Human-labelled rows to train on.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Number of seeds.", min=1)]
Base = Annotated[
    str | None,
    typer.Option("--base", help="Checkpoint to start from: a folder or hub name.", show_default=DEFAULT_BASE),
]
LLMName = Annotated[
    str | None, typer.Option("--llm", help="An LLM, such as openai:gpt-4.1-mini, or gguf:FILE for a local model.")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds that one LLM reply may take.")]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="LLM calls in flight at once.")]


@dataclass(frozen=True)
class LLMOptions:
    """The LLM and how it is called."""

    llm: Annotated[
        str | None, _llm("--llm", help="Plans and annotates, such as openai:gpt-4.1-mini, or gguf:FILE.")
    ] = None
    timeout: Annotated[float, _llm("--timeout", help="Seconds that one reply may take.")] = 120
    concurrency: Annotated[int, _llm("--concurrency", min=1, help="Calls in flight at once.")] = 4
    retries: Annotated[int, _llm("--retries", min=0, help="Attempts after the first, on transient failures.")] = 5
    rate: Annotated[float | None, _llm("--rate", help="Requests per second at most.", show_default="no limit")] = None
    price: Annotated[
        str | None,
        _llm("--price", metavar="IN,OUT", help="USD per million input and output tokens.", show_default="price table"),
    ] = None

    def make(self) -> LLM | None:
        """Set up the LLM; None where none is named."""
        if self.llm is None:
            return None
        return make_llm(
            self.llm,
            timeout_s=self.timeout,
            max_concurrency=self.concurrency,
            max_retries=self.retries,
            requests_per_second=self.rate,
            usd_per_million_tokens=_prices(self.price),
        )


@dataclass(frozen=True)
class AnnotationOptions:
    """Options for annotation."""

    annotate: Annotated[int, _llm("--annotate", help="Texts that the LLM annotates.", min=10)] = 300
    texts_per_call: Annotated[
        int, _llm("--texts-per-call", help="Texts in one LLM call; small models answer better on 1.", min=1)
    ] = 4


@dataclass(frozen=True)
class BudgetOptions:
    """Limits on what the LLM may cost."""

    max_llm_calls: Annotated[
        int | None, _budget("--max-llm-calls", help="LLM calls at most.", min=0, show_default="no limit")
    ] = None
    max_tokens: Annotated[
        int | None, _budget("--max-tokens", help="LLM tokens at most.", min=0, show_default="no limit")
    ] = None
    max_usd: Annotated[float | None, _budget("--max-usd", help="USD at most.", min=0, show_default="no limit")] = None

    def settings(self) -> Mapping[str, object]:
        """Return the fields of ``BudgetSettings``."""
        return {"max_calls": self.max_llm_calls, "max_tokens": self.max_tokens, "max_usd": self.max_usd}


@dataclass(frozen=True)
class TargetOptions:
    """Guarantees for the rows."""

    target_agreement: Annotated[
        float | None,
        _targets(
            "--target-agreement",
            help="Guarantee that this share of the texts has the LLM's answers; the LLM decides where the proxy is not "
            "confident.",
            show_default="no guarantee",
        ),
    ] = None
    target_recall: Annotated[
        float | None,
        _targets(
            "--target-recall",
            help="Guarantee that this share of the LLM's matches is found (a filter).",
            show_default="no guarantee",
        ),
    ] = None
    target_precision: Annotated[
        float | None,
        _targets(
            "--target-precision",
            help="Guarantee that this share of the matches is the LLM's (a filter).",
            show_default="no guarantee",
        ),
    ] = None
    target_spans: Annotated[
        float | None,
        _targets(
            "--target-spans",
            help="Guarantee that this share of the texts misses no span of the LLM's.",
            show_default="no guarantee",
        ),
    ] = None
    confidence: Annotated[
        float | None, _targets("--confidence", help="Confidence of all guarantees together.", show_default="0.95")
    ] = None
    certify: Annotated[
        int | None, _targets("--certify", help="Texts annotated for the certificates alone.", min=1, show_default="300")
    ] = None
    escalate: Annotated[
        float | None,
        _targets("--escalate", help="Share of the texts that may go to the LLM for the targets.", show_default="0.1"),
    ] = None

    def settings(self) -> Mapping[str, object] | None:
        """Return the fields of ``Targets`` that were passed; None where none was."""
        fields = {
            "agreement": self.target_agreement,
            "recall": self.target_recall,
            "precision": self.target_precision,
            "spans": self.target_spans,
            "confidence": self.confidence,
            "annotations": self.certify,
            "escalate": self.escalate,
        }
        return {name: value for name, value in fields.items() if value is not None} or None


@dataclass(frozen=True)
class InputOptions:
    """Options for reading the corpus."""

    text_column: Annotated[
        str | None, _input("--text-column", help="Column that holds the text.", show_default="detected by its name")
    ] = None
    id_column: Annotated[
        str | None,
        _input(
            "--id-column", help="Column that holds the id; '' numbers the rows.", show_default="detected by its name"
        ),
    ] = None
    bad_rows: Annotated[BadRows, _input("--bad-rows", help="Stop at a row that cannot be read, or record it.")] = (
        BadRows.fail
    )

    def settings(self) -> Mapping[str, object]:
        """Return the fields of ``CorpusSettings``."""
        return {"text_column": self.text_column, "id_column": self.id_column, "on_bad_row": self.bad_rows.value}


@dataclass(frozen=True)
class TrainingOptions:
    """Options for training."""

    base: Annotated[
        str | None,
        _training("--base", help="Checkpoint to start from: a folder or hub name.", show_default=DEFAULT_BASE),
    ] = None
    layers: Annotated[
        int | None,
        _training(
            "--layers", help="Keep only the first layers: faster, somewhat less accurate.", min=1, show_default="all"
        ),
    ] = None
    metric: Annotated[
        list[str] | None,
        _training(
            "--metric",
            metavar="STEP=METRIC",
            help="Choose the threshold of a yes/no or multi-label step for f1, precision:P or recall:R; repeatable.",
            show_default="one half",
        ),
    ] = None
    seed: Annotated[int, _training("--seed", help="Seed of sample and weights.")] = 0

    def metrics(self) -> dict[str, str]:
        """Return the metrics by step id. Raises ``SettingsError`` where one names no step."""
        metrics = {}
        for option in self.metric or ():
            step, equals, metric = option.partition("=")
            if not (step and equals):
                raise SettingsError(
                    f"--metric {option} names no step; write STEP=METRIC, e.g. --metric positive=recall:0.95"
                )
            metrics[step] = metric
        return metrics


@dataclass(frozen=True)
class RunOptions:
    """Options for the run."""

    backend: Annotated[str, _run("--backend", help="auto, onnx, onnx-int8, torch, torch-bf16, openvino or cuda.")] = (
        "auto"
    )
    engine: Annotated[Engine, _run("--engine", help="Compute here, or on a Ray cluster (RAY_ADDRESS).")] = Engine.local
    workers: Annotated[
        int | None,
        _run("--workers", min=1, help="Actors of the ray engine, one core each.", show_default="the cores of Ray"),
    ] = None
    retry_failed: Annotated[
        bool, _run("--retry-failed", help="Compute rows with an error again, and keep all others.")
    ] = False

    def settings(self) -> Mapping[str, object]:
        """Return the fields of ``RunSettings``."""
        return {
            "backend": self.backend,
            "engine": self.engine.value,
            "workers": self.workers,
            "retry_failed": self.retry_failed,
        }


def mine_settings(**fields: Any) -> MineSettings:
    """Validate settings; a fault becomes a ``SettingsError`` that names the field."""
    try:
        return MineSettings.model_validate(fields)
    except ValidationError as error:
        raise settings_error(error) from error


def make_llm(model: str, **fields: Any) -> LLM:
    """Set up an LLM. Raises ``SettingsError`` for settings out of range, ``LLMError`` for a model that is not there."""
    from langchain_falconer.llm import LLM

    try:
        return LLM(model, LLMSettings.model_validate(fields))
    except ValidationError as error:
        raise settings_error(error) from error


def settings_error(error: ValidationError) -> SettingsError:
    """Return the first fault of settings in one sentence."""
    field, reason = first_fault(error)
    return SettingsError(f"{field or 'settings'}: {reason}", field=field or None)


def read_file(path: Path) -> bytes:
    """Read a file. Raises ``SettingsError`` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path} ({error.strerror}); name a file that exists") from error


def _prices(price: str | None) -> tuple[float, float] | None:
    if price is None:
        return None
    try:
        input_usd, output_usd = map(float, price.split(","))
    except ValueError:
        input_usd = output_usd = -1.0
    if not (0 <= input_usd < float("inf") and 0 <= output_usd < float("inf")):
        raise SettingsError(f"--price '{price}' is not IN,OUT in USD per million tokens; write e.g. --price 0.4,1.6")
    return input_usd, output_usd
