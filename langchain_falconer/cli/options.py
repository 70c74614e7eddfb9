"""Arguments and options that several commands share, in groups, and the settings that they make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError

from langchain_falconer.cli.config import with_file
from langchain_falconer.errors import SettingsError, first_fault
from langchain_falconer.settings import (
    DEFAULT_BASE,
    BackendName,
    DeviceName,
    EngineName,
    FormatName,
    LLMSettings,
    MineSettings,
    RowUnit,
)

if TYPE_CHECKING:
    from langchain_falconer.llm import LLM

_llm = partial(typer.Option, rich_help_panel="LLM")
_limit = partial(typer.Option, rich_help_panel="Budget", min=0, show_default="no limit")
_targets = partial(typer.Option, rich_help_panel="Guarantees")
_share = partial(_targets, show_default="no guarantee")
_input = partial(typer.Option, rich_help_panel="Input", show_default="detected by its name")
_training = partial(typer.Option, rich_help_panel="Training")
_run = partial(typer.Option, rich_help_panel="Run")

Home = Annotated[
    Path | None,
    typer.Option(
        "--home", help="Folder of annotations, proxies and runs.", show_default="$FALCONER_HOME or ~/.falconer"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Corpora = Annotated[
    list[str],
    typer.Argument(
        help="Files, folders or URLs (s3://… and others): JSON, CSV, Parquet, Excel, text, gzip of these; - is stdin."
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        help="File or URL of the rows: .jsonl, .parquet, .duckdb (one table, rows), .csv or .xlsx; - is stdout.",
    ),
]
TextColumn = Annotated[str | None, _input("--text-column", help="Column that holds the text.")]
Seed = Annotated[int, _training("--seed", help="Seed of sample and weights.")]
Base = Annotated[str, _training("--base", help="Checkpoint to start from: a folder or hub name.")]
Data = Annotated[Path, typer.Option("--data", help="Folder of the datasets.")]
Sets = Annotated[str, typer.Option("--sets", help="Only these datasets, such as snips,sst.", show_default="all")]
Rows = Annotated[int, typer.Option("--rows", min=10, help="Human-labelled rows to train on.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Number of seeds.", min=1)]
LLMName = Annotated[
    str | None, _llm("--llm", help="Plans and annotates: openai:gpt-4.1-mini, gguf:FILE, or systemone:URL (no plan).")
]
Timeout = Annotated[float, _llm("--timeout", help="Seconds that one reply may take.")]
Concurrency = Annotated[int, _llm("--concurrency", min=1, help="Calls in flight at once.")]


@dataclass(frozen=True)
class LLMOptions:
    """The LLM and how it is called."""

    llm: LLMName = None
    timeout: Timeout = 120
    concurrency: Concurrency = 4
    max_retries: Annotated[
        int, _llm("--max-retries", min=0, help="Attempts after the first, on rate limits and failures that pass.")
    ] = 5
    rate: Annotated[float | None, _llm("--rate", help="Requests per second at most.", show_default="no limit")] = None
    price: Annotated[
        str | None,
        _llm("--price", metavar="IN,OUT", help="USD per million input and output tokens.", show_default="price table"),
    ] = None

    max_output_tokens: Annotated[
        int,
        _llm("--max-output-tokens", min=1, help="Tokens of a reply; doubled up to twice for one that is cut off."),
    ] = 1024
    temperature: Annotated[
        float, _llm("--temperature", min=0, help="Sampling temperature; left out where the model refuses it.")
    ] = 0.0

    def make(self) -> LLM | None:
        """Set up the LLM; None where none is named."""
        if self.llm is None:
            return None
        return make_llm(
            self.llm,
            timeout_s=self.timeout,
            max_concurrency=self.concurrency,
            max_retries=self.max_retries,
            requests_per_second=self.rate,
            usd_per_million_tokens=_prices(self.price),
            max_output_tokens=self.max_output_tokens,
            temperature=self.temperature,
        )


@dataclass(frozen=True)
class AnnotationOptions:
    """Options for annotation."""

    annotate: Annotated[int, _llm("--annotate", help="Texts that the LLM annotates.", min=10)] = 300
    texts_per_call: Annotated[
        int, _llm("--texts-per-call", help="Texts in one LLM call; small models answer better on 1.", min=1)
    ] = 4
    no_pilot: Annotated[
        bool, typer.Option("--no-pilot", help="Skip the pilot that tries the questions out on 20 texts first.")
    ] = False
    batch: Annotated[
        bool, _llm("--batch", help="Annotate through OpenAI's Batch API: half the price, done within a day.")
    ] = False
    max_rounds: Annotated[
        int | None,
        _llm(
            "--max-rounds",
            help="Rounds of annotation; later ones ask about what the proxy doubts, while that is forecast to pay.",
            min=1,
            show_default="1; 4 with --target-agreement",
        ),
    ] = None
    round_annotations: Annotated[
        int, _llm("--round-annotations", help="Texts that each further round annotates.", min=1)
    ] = 100


@dataclass(frozen=True)
class BudgetOptions:
    """The fields of ``BudgetSettings``."""

    max_calls: Annotated[int | None, _limit("--max-llm-calls", help="LLM calls at most.")] = None
    max_tokens: Annotated[int | None, _limit("--max-tokens", help="LLM tokens at most.")] = None
    max_usd: Annotated[float | None, _limit("--max-usd", help="USD at most.")] = None


@dataclass(frozen=True)
class TargetOptions:
    """The fields of ``Targets``."""

    agreement: Annotated[
        float | None,
        _share(
            "--target-agreement",
            help="Guarantee that this share of the texts has the LLM's answers; the LLM decides where the proxy is not "
            "confident.",
        ),
    ] = None
    recall: Annotated[
        float | None,
        _share("--target-recall", help="Guarantee that this share of the LLM's matches is found (a filter)."),
    ] = None
    precision: Annotated[
        float | None,
        _share("--target-precision", help="Guarantee that this share of the matches is the LLM's (a filter)."),
    ] = None
    spans: Annotated[
        float | None,
        _share("--target-spans", help="Guarantee that this share of the texts misses no span of the LLM's."),
    ] = None
    confidence: Annotated[
        float | None, _targets("--confidence", help="Confidence of all guarantees together.", show_default="0.95")
    ] = None
    annotations: Annotated[
        int | None, _targets("--certify", help="Texts annotated for the certificates alone.", min=1, show_default="300")
    ] = None
    escalate: Annotated[
        float | None,
        _targets("--escalate", help="Share of the texts that may go to the LLM for the targets.", show_default="0.1"),
    ] = None


@dataclass(frozen=True)
class InputOptions:
    """The fields of ``CorpusSettings``."""

    text_column: TextColumn = None
    id_column: Annotated[str | None, _input("--id-column", help="Column that holds the id; '' numbers the rows.")] = (
        None
    )
    on_bad_row: Annotated[
        Literal["fail", "record"],
        _input("--bad-rows", help="Stop at a row that cannot be read, or record it.", show_default=True),
    ] = "fail"
    format: Annotated[
        FormatName,
        _input("--format", help="Format of the files; lines is one text a line.", show_default="by their names"),
    ] = "auto"
    encoding: Annotated[
        str | None, _input("--encoding", help="Encoding of text files, such as cp1252.", show_default="utf-8")
    ] = None
    delimiter: Annotated[
        str | None,
        _input("--delimiter", help="What separates the fields of CSV, such as ; or tab.", show_default="guessed"),
    ] = None
    keep: Annotated[
        str,
        _input("--keep", help="Other columns in the rows' metadata: all, none, or names (a,b).", show_default=True),
    ] = "all"


TrainMinutes = Annotated[
    float,
    _training("--train-minutes", min=0, help="Minutes that training may take; too few cost accuracy, 0 is no limit."),
]


@dataclass(frozen=True)
class TrainingOptions:
    """Options for training."""

    base: Base = DEFAULT_BASE
    train_minutes: TrainMinutes = 5.0
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
    seed: Seed = 0

    def metrics(self) -> dict[str, str]:
        """Return the metrics by step id. Raises ``SettingsError`` where one names no step."""
        metrics = {}
        for option in self.metric or ():
            step, _, metrics[step] = option.partition("=")
            if not (step and metrics[step]):
                raise SettingsError(
                    f"--metric {option} names no step; write STEP=METRIC, e.g. --metric positive=recall:0.95"
                )
        return metrics


@dataclass(frozen=True)
class RunOptions:
    """The fields of ``RunSettings``."""

    backend: Annotated[BackendName, _run("--backend", help="What computes; auto measures which is fastest.")] = "auto"
    device: Annotated[DeviceName, _run("--device", help="Where; auto is a GPU where there is one.")] = "auto"
    engine: Annotated[EngineName, _run("--engine", help="Compute here, or on a Ray cluster (RAY_ADDRESS).")] = "local"
    workers: Annotated[
        int | None,
        _run("--workers", min=1, help="Actors of the ray engine, one core each.", show_default="the cores of Ray"),
    ] = None
    row_unit: Annotated[RowUnit, _run("--row-unit", help="What is a row of an output in .csv or .xlsx.")] = "text"
    retry_failed: Annotated[
        bool, _run("--retry-failed", help="Compute rows with an error again, and keep all others.")
    ] = False


def mine_settings(**fields: Any) -> MineSettings:
    """Validate settings. Raises ``SettingsError`` that names the field."""
    try:
        return MineSettings.model_validate(with_file(fields))
    except ValidationError as error:
        raise _settings_error(error) from error


def make_llm(model: str, **fields: Any) -> LLM:
    """Set up an LLM. Raises ``SettingsError`` for settings out of range, ``LLMError`` for a model that is not there."""
    from langchain_falconer.llm import LLM

    try:
        return LLM(model, LLMSettings.model_validate(fields))
    except ValidationError as error:
        raise _settings_error(error) from error


def _settings_error(error: ValidationError) -> SettingsError:
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
