"""``falconer plan | mine | train | predict | pretrain | proxies | report | demo | mcp | benchmark``: the commands."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from langchain_falconer.errors import FalconerError, RunError, SettingsError

if TYPE_CHECKING:
    from langchain_falconer.falconer import Falconer, MiningResult
    from langchain_falconer.graph import Review
    from langchain_falconer.llm import LLM
    from langchain_falconer.proxy import Registry
    from langchain_falconer.route import Decision

app = typer.Typer(
    name="falconer",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Mine a large corpus with an LLM's judgement at a small encoder's price.",
)
proxies_app = typer.Typer(
    no_args_is_help=False, invoke_without_command=True, help="List the trained proxies, or do things to them."
)
benchmark_app = typer.Typer(no_args_is_help=True, help="Measure Falconer on this machine.")
app.add_typer(proxies_app, name="proxies")
app.add_typer(benchmark_app, name="benchmark")

stderr = Console(stderr=True)
stdout = Console()


class Engine(str, Enum):
    """Where the run is computed."""

    local = "local"
    ray = "ray"


class Part(str, Enum):
    """What the benchmark of proxies measures."""

    zero_shot = "zero-shot"
    few = "few"
    noisy_teacher = "noisy-teacher"
    calibration = "calibration"
    in_a_row = "in-a-row"
    pace = "pace"


class BadRows(str, Enum):
    """What becomes of a row that cannot be read."""

    fail = "fail"
    record = "record"


Llm = Annotated[
    str | None,
    typer.Option("--llm", help="Plans and annotates, e.g. openai:gpt-4.1-mini, or gguf:FILE for a local model."),
]
HomeDir = Annotated[
    Path | None, typer.Option("--home", help="Where annotations, proxies and runs are kept [default: ~/.falconer].")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Price = Annotated[
    str | None, typer.Option("--price", metavar="IN,OUT", help="USD per million input and output tokens.")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds to wait for one LLM reply.")]
Sets = Annotated[str, typer.Option("--sets", help="Only these data sets, e.g. snips,sst.")]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="LLM calls under way at once.")]
PlanFile = Annotated[
    Path | None, typer.Option("--plan", help="A plan (JSON) to use instead of asking the LLM for one.")
]
AnnotationsFile = Annotated[
    Path | None, typer.Option("--annotations", help="Your own labels (JSONL); no LLM is asked about texts.")
]
TextColumn = Annotated[str | None, typer.Option("--text-column", help="The column that holds the text.")]
IdColumn = Annotated[str | None, typer.Option("--id-column", help="The column that holds the id; '' numbers the rows.")]
Corpora = Annotated[
    list[str],
    typer.Argument(help="Files, folders or URLs (s3://… and others): JSONL, CSV, Parquet, text, gzip of these."),
]
Output = Annotated[
    str,
    typer.Option(
        "--output", "-o", help="Where the rows go, a file or URL: .jsonl, .parquet or .duckdb (one table, rows)."
    ),
]
EngineName = Annotated[
    Engine, typer.Option("--engine", help="Where the run is computed: here, or on a Ray cluster (RAY_ADDRESS).")
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Actors of the ray engine, a core each [default: Ray's cores].")
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try the rows with an error again, and keep all others.")
]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same sample and weights.")]
Backend = Annotated[str, typer.Option("--backend", help="auto, onnx, onnx-int8, torch, torch-bf16, openvino or cuda.")]
Base = Annotated[
    str | None, typer.Option("--base", help="The encoder to train: a folder or hub name [default: falconer-small].")
]
ProxyName = Annotated[str, typer.Argument(metavar="NAME", help="A proxy's name, as 'falconer proxies' lists it.")]
ProxyNames = Annotated[list[str], typer.Argument(metavar="NAME...", help="Names, as 'falconer proxies' lists them.")]


@app.command()
def plan(
    instruction: str,
    llm: Llm = None,
    cost: Annotated[
        str | None,
        typer.Option("--cost", metavar="CORPUS", help="Also say what it costs on this file, folder or stored corpus."),
    ] = None,
    home: HomeDir = None,
    price: Price = None,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Have the LLM plan INSTRUCTION, and show the plan. Nothing is annotated."""
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.plan import Planner, to_mermaid, to_pseudocode

    if llm is None:
        raise SettingsError("planning needs an LLM; name one with --llm, e.g. --llm openai:gpt-4.1-mini")
    with stderr.status("planning…"):
        asked = _llm(llm, timeout=timeout, price=price)
        made = Planner(asked).plan(instruction)
        falconer = Falconer(asked, home=home) if cost is not None else None
        corpus = (Path(cost) if Path(cost).exists() else falconer.corpus(cost)) if cost and falconer else None
        costs = falconer.costs(made, corpus) if falconer else None
    if as_json:
        _print_json({**made.to_dict(), **({"costs": costs.to_dict()} if costs else {})})
    else:
        _show_code(to_pseudocode(made), stdout)
        stdout.print(to_mermaid(made), markup=False, highlight=False, style="dim")
        if costs:
            _show_costs(costs)


@app.command()
def mine(
    instruction: str,
    corpus: Corpora,
    output: Output,
    plan_file: PlanFile = None,
    llm: Llm = None,
    annotations: AnnotationsFile = None,
    home: HomeDir = None,
    annotate: Annotated[int, typer.Option("--annotate", help="Texts that the LLM annotates.", min=10)] = 300,
    texts_per_call: Annotated[
        int, typer.Option("--texts-per-call", help="Texts in one LLM call; small models answer better on 1.", min=1)
    ] = 4,
    max_llm_calls: Annotated[
        int | None, typer.Option("--max-llm-calls", help="Most LLM calls of this job.", min=0)
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Most LLM tokens of this job.", min=0)] = None,
    max_usd: Annotated[float | None, typer.Option("--max-usd", help="Most USD of this job.", min=0)] = None,
    price: Price = None,
    target_agreement: Annotated[
        float | None,
        typer.Option(
            "--target-agreement",
            help="Guarantee that this share of the texts has the LLM's answers (0 to 1): what the proxy is not sure "
            "of goes to the LLM.",
        ),
    ] = None,
    target_recall: Annotated[
        float | None,
        typer.Option("--target-recall", help="Guarantee that this share of the LLM's matches is found (a filter)."),
    ] = None,
    target_precision: Annotated[
        float | None,
        typer.Option("--target-precision", help="Guarantee that this share of the matches is the LLM's (a filter)."),
    ] = None,
    target_spans: Annotated[
        float | None,
        typer.Option("--target-spans", help="Guarantee that this share of the texts misses no span of the LLM's."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="How sure all guarantees are together [default: 0.95].")
    ] = None,
    certify: Annotated[
        int | None,
        typer.Option("--certify", help="Texts annotated to certify the targets alone [default: 300].", min=1),
    ] = None,
    escalate: Annotated[
        float | None,
        typer.Option("--escalate", help="Share of the texts that may go to the LLM for the targets [default: 0.1]."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="STEP=METRIC",
            help="Choose the threshold of a yes/no or any-of step for f1, precision:P or recall:R; may be given again.",
        ),
    ] = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    bad_rows: Annotated[
        BadRows, typer.Option("--bad-rows", help="Stop at a row that cannot be read, or record it.")
    ] = BadRows.fail,
    base: Base = None,
    backend: Backend = "auto",
    layers: Annotated[
        int | None,
        typer.Option("--layers", help="Keep only the encoder's first layers: faster, a little less accurate.", min=1),
    ] = None,
    engine: EngineName = Engine.local,
    workers: Workers = None,
    retry_failed: RetryFailed = False,
    seed: Seed = 0,
    timeout: Timeout = 120,
    concurrency: Concurrency = 4,
    retries: Annotated[int, typer.Option("--retries", help="Tries again after a passing LLM failure.", min=0)] = 5,
    rate: Annotated[float | None, typer.Option("--rate", help="Most LLM requests per second.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Also write the HTML report here.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Approve the plan without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Mine CORPUS for INSTRUCTION: plan, annotate a few texts, train a proxy, run it over everything.

    The same command again goes on where it was stopped; no LLM call is paid twice.
    """
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.plan import Plan

    if report is not None and not report.absolute().parent.is_dir():
        raise RunError(f"the folder of the report '{report}' does not exist; create it first")
    settings = _mine_settings(
        annotations=annotate,
        targets=_given(
            agreement=target_agreement,
            recall=target_recall,
            precision=target_precision,
            spans=target_spans,
            confidence=confidence,
            annotations=certify,
            escalate=escalate,
        ),
        seed=seed,
        metrics=dict(_pair(one) for one in metric or ()),
        corpus={"text_column": text_column, "id_column": id_column, "on_bad_row": bad_rows.value},
        annotate={"texts_per_call": texts_per_call},
        budget={"max_calls": max_llm_calls, "max_tokens": max_tokens, "max_usd": max_usd},
        train={"seed": seed, "layers": layers},
        run=_run_settings(backend, engine, workers, retry_failed=retry_failed),
        **({"base": base} if base else {}),
    )
    falconer = Falconer(
        _llm(
            llm,
            timeout=timeout,
            price=price,
            max_concurrency=concurrency,
            max_retries=retries,
            requests_per_second=rate,
        )
        if llm
        else None,
        annotations=annotations,
        home=home,
        settings=settings,
    )
    given = Plan.parse(_read(plan_file)) if plan_file else None
    ask = given is None and not yes and sys.stdin.isatty()
    result = _mined(falconer, instruction, corpus, output, plan=given, reviewer=_review if ask else None)
    _finish(result, report, as_json)


@app.command()
def train(
    plan_file: Annotated[Path, typer.Option("--plan", help="The plan (JSON).")],
    annotations: Annotated[Path, typer.Option("--annotations", help="Your labels (JSONL).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the new proxy.")],
    unlabelled: Annotated[
        list[str] | None,
        typer.Option("--unlabelled", help="A corpus that it is to read: some of its texts teach, unannotated."),
    ] = None,
    text_column: TextColumn = None,
    base: Base = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a proxy for a plan on annotations of your own, all of them, and export it through Optimum."""
    from langchain_falconer.annotate import read_annotations
    from langchain_falconer.corpus import CorpusSettings, Document, open_corpus_files, sample_uniform, split_passages
    from langchain_falconer.plan import Plan
    from langchain_falconer.proxy import (
        DEFAULT_BASE,
        PASSAGE_CHARS,
        UNLABELLED,
        TrainSettings,
        check_place,
        train_proxy,
    )

    check_place(output)
    made = Plan.parse(_read(plan_file))
    known = read_annotations(annotations, made)
    rows = open_corpus_files(unlabelled, CorpusSettings(text_column=text_column)) if unlabelled else ()
    whole = (row.text for row in rows if isinstance(row, Document))
    passages = (text[start:end] for text in whole for start, end in split_passages(text, PASSAGE_CHARS))
    texts = sample_uniform(passages, UNLABELLED, seed, key=str)
    with _progress() as show:
        proxy = train_proxy(
            made,
            known,
            base=base or DEFAULT_BASE,
            unlabelled=texts,
            settings=TrainSettings(seed=seed),
            on_step=lambda done, total, loss: show({"stage": "train", "done": done, "total": total}),
        )
        proxy.save(output)
        difference = proxy.export()
    facts = {
        "proxy": str(output),
        "annotations": len(known),
        "unlabelled": len(texts),
        "training": proxy.manifest["training"],
        "export_difference": difference,
    }
    if as_json:
        _print_json(facts)
    else:
        stdout.print(
            f"trained on {len(known)} texts in {facts['training']['seconds']} s; the proxy is in [bold]{output}[/bold]"
        )


@app.command()
def predict(
    proxy_path: Annotated[
        Path,
        typer.Argument(metavar="PROXY", help="A proxy's folder; or a plan (JSON), answered untrained from its words."),
    ],
    corpus: Corpora,
    output: Output,
    home: HomeDir = None,
    text_column: TextColumn = None,
    id_column: IdColumn = None,
    bad_rows: Annotated[
        BadRows, typer.Option("--bad-rows", help="Stop at a row that cannot be read, or record it.")
    ] = BadRows.fail,
    backend: Backend = "auto",
    engine: EngineName = Engine.local,
    workers: Workers = None,
    retry_failed: RetryFailed = False,
    as_json: AsJson = False,
) -> None:
    """Run a proxy over CORPUS: a trained one, or an untrained one of a plan. No LLM is involved.

    The same command again goes on where it was stopped.
    """
    from itertools import islice

    from langchain_falconer.corpus import Document, open_corpus_files, place
    from langchain_falconer.execute import Run, choose_backend
    from langchain_falconer.graph import Home
    from langchain_falconer.plan import Plan
    from langchain_falconer.proxy import Proxy

    settings = _mine_settings(
        corpus={"text_column": text_column, "id_column": id_column, "on_bad_row": bad_rows.value},
        run=_run_settings(backend, engine, workers, retry_failed=retry_failed),
    )
    proxy = Proxy.zero_shot(Plan.parse(_read(proxy_path))) if proxy_path.is_file() else Proxy.load(proxy_path)
    texts = open_corpus_files(list(corpus), settings.corpus)
    choose_backend(proxy, [d.text for d in islice(texts, 256) if isinstance(d, Document)], backend)
    with _progress() as show:
        run = Run(proxy, texts, Home.at(home).run_folder("predict"), settings.run)
        done = run(place(output), lambda n: show({"stage": "execute", "done": n, "total": None}))
    facts = {
        "output": str(place(output)),
        "rows": done.tally.summary(),
        "texts_per_second": done.texts_per_second,
        "backend": proxy.session.name,
    }
    if as_json:
        _print_json(facts)
    else:
        stdout.print(f"{done.tally.total:,} rows, {done.tally.matched:,} matched, in [bold]{place(output)}[/bold]")


@app.command()
def pretrain(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the metamodel.")],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Its settings and mix (JSON) [default: that of the shipped one].")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option("--answers", help="An LLM's labels of raw texts [default: those shipped].")
    ] = None,
    llm: Llm = None,
    ask: Annotated[
        int, typer.Option("--ask", help="First have the LLM label, and mark, so many texts, into --answers.")
    ] = 0,
    timeout: Timeout = 120,
    concurrency: Concurrency = 4,
    as_json: AsJson = False,
) -> None:
    """Make a metamodel: what proxies start from. The same command again goes on from the last checkpoint."""
    from langchain_falconer.pretrain import ANSWERS, LABELS, MARKS, SHIPPED, Recipe, askable, distil, make, markable

    made_of = Recipe.read(recipe or SHIPPED)
    file = answers or ANSWERS
    if ask and (llm is None or answers is None):
        raise SettingsError("--ask needs an LLM and a file for its answers; name them with --llm and --answers")
    with _progress() as show:
        if ask and llm:
            asked = _llm(llm, timeout=timeout, max_concurrency=concurrency)
            for survey, texts in ((LABELS, askable(data)[:ask]), (MARKS, markable(data)[:ask])):
                distil(
                    asked,
                    survey,
                    texts,
                    file,
                    concurrency,
                    lambda n: show({"stage": "distil", "done": n, "total": ask}),
                )
        card = make(
            made_of, data, output, file, lambda p: show({"stage": "pretrain", "done": p.step, "total": p.steps})
        )
    if as_json:
        _print_json({"metamodel": str(output), **card})
    else:
        stdout.print(f"the metamodel is in [bold]{output}[/bold]; train on it with --base {output}")


@proxies_app.callback()
def proxies(context: typer.Context, home: HomeDir = None, as_json: AsJson = False) -> None:
    """List the trained proxies, the newest first."""
    from langchain_falconer.report import print_entries

    if context.invoked_subcommand:
        context.default_map = {context.invoked_subcommand: {"home": home, "as_json": as_json}}
        return
    registry = _registry(home)
    entries = registry.entries()
    if as_json:
        _print_json({"proxies": [entry.to_dict() for entry in entries]})
    elif entries:
        print_entries(entries, stdout)
    else:
        stdout.print(f"no proxy yet in {registry.folder}")


@proxies_app.command("show")
def show_proxy(name: ProxyName, home: HomeDir = None, as_json: AsJson = False) -> None:
    """Show a proxy: its plan, data, training, quality, backends and place."""
    from langchain_falconer.report import print_entry

    entry = _registry(home).entry(name)
    if as_json:
        _print_json({**entry.manifest, **entry.to_dict()})
    else:
        print_entry(entry, stdout)


@proxies_app.command("export")
def export_proxy(
    name: ProxyName,
    path: Annotated[Path, typer.Argument(help="A folder, or a file that ends in .zip.")],
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Copy a proxy to a folder or a zip file, to move it to another machine."""
    _registry(home).export_to(name, path)
    if as_json:
        _print_json({"name": name, "path": str(path)})
    else:
        stdout.print(f"{name} is in {path}", markup=False, highlight=False)


@proxies_app.command("import")
def import_proxy(
    path: Annotated[Path, typer.Argument(help="A folder or zip file that export wrote.")],
    name: Annotated[str | None, typer.Option("--name", help="What to call it [default: as the file].")] = None,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Take in a proxy from a folder or zip file, once it is seen to answer."""
    entry = _registry(home).import_from(path, name)
    if as_json:
        _print_json(entry.to_dict())
    else:
        stdout.print(f"{path} is now the proxy {entry.name}", markup=False, highlight=False)


@proxies_app.command("delete")
def delete_proxies(
    names: ProxyNames,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    home: HomeDir = None,
    as_json: AsJson = False,
) -> None:
    """Delete proxies for good."""
    registry = _registry(home)
    registry.check(*names)
    if not yes:
        if not sys.stdin.isatty():
            raise SettingsError("nobody is there to be asked whether to delete; add --yes")
        typer.confirm(f"Delete {', '.join(names)} for good?", abort=True, err=True)
    registry.delete(*names)
    if as_json:
        _print_json({"deleted": names})
    else:
        stdout.print(f"deleted {', '.join(names)}", markup=False, highlight=False)


@app.command()
def report(
    run_id: Annotated[str | None, typer.Argument(help="The run [default: the newest].")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file.")] = Path("report.html"),
    home: HomeDir = None,
) -> None:
    """Write the HTML report of a finished run again, and show its summary."""
    from langchain_falconer.falconer import MiningResult
    from langchain_falconer.graph import Home, read_json
    from langchain_falconer.report import print_summary

    runs = Home.at(home).folder / "runs"
    found = sorted(runs.glob("*/summary.json"), key=lambda p: p.stat().st_mtime)
    chosen = [p for p in found if run_id is None or p.parent.name.startswith(run_id)]
    if not chosen:
        finished = ", ".join(p.parent.name for p in found) or "none"
        raise RunError(f"there is no finished run {run_id or ''} in {runs}; finished are: {finished}")
    result = MiningResult(read_json(chosen[-1]))
    if not result.output.is_file():
        raise RunError(f"the rows of that run are gone from {result.output}; run the same mine command again")
    print_summary({**result.summary, "report": str(result.report(output))}, stdout)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the rows go.")] = Path("demo.jsonl"),
    llm: Llm = None,
    home: HomeDir = None,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """Mine 2,225 real BBC articles: from business news, the companies and the amounts of money.

    With no LLM at hand, the plan and the annotations are those that a real LLM gave when they were recorded; training
    and the run are live.
    """
    from langchain_falconer import demo as recorded

    recording = recorded.Recording.shipped()
    falconer, options = recording.prepare(_llm(llm, timeout=timeout) if llm else None, home)
    if llm is None:
        stderr.print(
            f"[yellow]No --llm given:[/yellow] the plan and {recording.texts} annotated passages are a recording of "
            f"[bold]{recording.model}[/bold] ({recording.date})."
        )
        stderr.print(
            "Training and the run over all articles are live. "
            "To have your own LLM plan and annotate: falconer demo --llm openai:gpt-4.1-mini",
            markup=False,
        )
    result = _mined(falconer, recording.instruction, recorded.bbc_articles(falconer.home.corpora), output, **options)
    _finish(result, output.with_suffix(".html"), as_json)


@app.command()
def mcp(
    llm: Llm = None,
    home: HomeDir = None,
    corpora: Annotated[
        list[str] | None,
        typer.Option("--corpus", metavar="NAME=PATH", help="A file or folder that may be asked about by this name."),
    ] = None,
    files: Annotated[
        Path | None, typer.Option("--files", help="The only folder that clients may add files from [default: none].")
    ] = None,
    http: Annotated[
        int | None, typer.Option("--http", metavar="PORT", help="Serve HTTP instead of stdio.", min=1)
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Where HTTP is served: 127.0.0.1, localhost or ::1, and nowhere else.")
    ] = "127.0.0.1",
    price: Price = None,
    max_usd: Annotated[float | None, typer.Option("--max-usd", help="Most USD of one question.", min=0)] = None,
    max_llm_calls: Annotated[
        int | None, typer.Option("--max-llm-calls", help="Most LLM calls of one question.", min=0)
    ] = None,
    timeout: Timeout = 120,
) -> None:
    """Serve the agent tools over MCP: on stdio, or as streamable HTTP at /mcp on the loopback interface."""
    from langchain_falconer.falconer import Falconer
    from langchain_falconer.tools import FalconerToolkit, create_mcp_server

    given = dict(one.partition("=")[::2] for one in corpora or [])
    if wrong := next((path or name for name, path in given.items() if not Path(path).exists() or not path), None):
        raise SettingsError(f"there is no file '{wrong}'; write --corpus NAME=PATH with a path that exists")
    settings = _mine_settings(budget={"max_usd": max_usd, "max_calls": max_llm_calls})
    falconer = Falconer(_llm(llm, timeout=timeout, price=price) if llm else None, home=home, settings=settings)
    toolkit = FalconerToolkit(falconer, corpora=given, files_folder=files)
    server = create_mcp_server(toolkit, host=host, port=http or 8000)
    server.run("streamable-http" if http else "stdio")


@benchmark_app.command("planning")
def benchmark_planning(llm: Llm = None, timeout: Timeout = 120, as_json: AsJson = False) -> None:
    """Twenty instructions: how many give a plan that is valid and says what was asked."""
    from langchain_falconer.benchmarks import planning

    if llm is None:
        raise SettingsError("this benchmark plans with an LLM; name one with --llm")
    _show_benchmark(planning.run(_llm(llm, timeout=timeout)), as_json)


@benchmark_app.command("labels")
def benchmark_labels(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1)] = 1,
    rows: Annotated[int, typer.Option("--rows", min=10, help="Human-labelled rows to train on.")] = 500,
    as_json: AsJson = False,
) -> None:
    """Train on human labels of four public sets, and score on their test rows."""
    from langchain_falconer.benchmarks import labels

    _show_benchmark(labels.run(data, seeds=seeds, rows=rows), as_json)


@benchmark_app.command("guarantee")
def benchmark_guarantee(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1)] = 3,
    rows: Annotated[int, typer.Option("--rows", min=10, help="Human-labelled rows to learn from.")] = 300,
    certify: Annotated[int, typer.Option("--certify", min=1, help="Rows drawn to certify targets.")] = 300,
    as_json: AsJson = False,
) -> None:
    """Certified targets on two public sets, human labels as the one to agree with: kept or not, and at what price."""
    from langchain_falconer.benchmarks import guarantee

    _show_benchmark(guarantee.run(data, seeds=seeds, rows=rows, drawn=certify), as_json)


@benchmark_app.command("live")
def benchmark_live(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    llm: Llm = None,
    annotate: Annotated[int, typer.Option("--annotate", help="Sentences that the LLM annotates.", min=10)] = 300,
    home: HomeDir = None,
    timeout: Timeout = 120,
    as_json: AsJson = False,
) -> None:
    """The whole job on 3,034 restaurant sentences with a real LLM; it and its proxy against human labels."""
    from langchain_falconer.benchmarks import live
    from langchain_falconer.graph import Home

    if llm is None:
        raise SettingsError("this benchmark plans and annotates with an LLM; name one with --llm")
    with _progress() as show:
        found = live.run(data, _llm(llm, timeout=timeout), Home.at(home).folder, annotations=annotate, on_event=show)
    _show_benchmark(found, as_json)


@benchmark_app.command("agents")
def benchmark_agents(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    llm: Llm = None,
    annotate: Annotated[int, typer.Option("--annotate", help="Texts of a set that the LLM annotates.", min=10)] = 120,
    sample: Annotated[
        int,
        typer.Option("--sample", help="Texts of a set that asking the LLM about every text is projected from.", min=10),
    ] = 120,
    seeds: Annotated[int, typer.Option("--seeds", min=1)] = 1,
    sets: Sets = "",
    home: HomeDir = None,
    timeout: Timeout = 120,
    concurrency: Concurrency = 4,
    as_json: AsJson = False,
) -> None:
    """Counts over three public sets: by an agent that reads, by the LLM on every text, by Falconer; tokens, seconds."""
    from langchain_falconer.benchmarks import agents
    from langchain_falconer.graph import Home

    if llm is None:
        raise SettingsError("this benchmark reads and annotates with an LLM; name one with --llm")
    with _progress() as show:
        counting = agents.Counting(
            data,
            _llm(llm, timeout=timeout, max_concurrency=concurrency),
            Home.at(home).folder,
            annotations=annotate,
            sample=sample,
            seeds=seeds,
            sets=tuple(filter(None, sets.split(","))),
            on_event=show,
        )
        found = agents.run(counting)
    _show_benchmark(found, as_json)


@benchmark_app.command("steps")
def benchmark_steps(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    as_json: AsJson = False,
) -> None:
    """The time of a plan of 6 steps against one of 1 step, over the same 5,000 texts."""
    from langchain_falconer.benchmarks import steps

    _show_benchmark(steps.run(data), as_json)


@benchmark_app.command("flight")
def benchmark_flight(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    texts: Annotated[int, typer.Option("--texts", help="Posts to fly over, 240,398 at most.", min=1_000)] = 20_000,
    rounds: Annotated[int, typer.Option("--rounds", min=1)] = 3,
    as_json: AsJson = False,
) -> None:
    """The run of a trained plan over short posts: pace beside a plain pipeline, memory, start."""
    from langchain_falconer.benchmarks import flight

    _show_benchmark(flight.run(data, texts=texts, rounds=rounds, on_score=_tell), as_json)


@benchmark_app.command("proxy")
def benchmark_proxy(
    data: Annotated[Path, typer.Option("--data", help="The folder of the data sets.")],
    part: Annotated[Part, typer.Option("--part", help="What to measure.")] = Part.zero_shot,
    rows: Annotated[int, typer.Option("--rows", help="Human labels to train on.", min=10)] = 100,
    seeds: Annotated[int, typer.Option("--seeds", min=1)] = 5,
    sets: Sets = "",
    base: Base = None,
    as_json: AsJson = False,
) -> None:
    """How good proxies are: untrained, from a few human labels, task after task; what scores and training are worth."""
    from langchain_falconer.benchmarks import Trial, proxy, teacher, training
    from langchain_falconer.proxy import DEFAULT_BASE

    trial = Trial(data, base or DEFAULT_BASE, rows, seeds, tuple(filter(None, sets.split(","))), _tell)
    measure = {
        Part.zero_shot: proxy.zero_shot,
        Part.few: proxy.few,
        Part.noisy_teacher: teacher.noisy_teacher,
        Part.calibration: proxy.calibration,
        Part.in_a_row: training.in_a_row,
        Part.pace: training.pace,
    }[part]
    _show_benchmark(measure(trial), as_json)


def main() -> None:
    """The console script: errors become one line and an exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # torch's threads would spin while they wait: beside another busy process (a local LLM) that makes training crawl.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A run makes millions of objects and hardly a cycle: looking for cycles as often as is usual takes a twelfth of it.
    gc.set_threshold(100_000, 50, 100)
    try:
        app()
    except FalconerError as error:
        stderr.print("[red]falconer:[/red] ", end="")
        stderr.print(" ".join(str(error).split()), markup=False, highlight=False, soft_wrap=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except KeyboardInterrupt:
        stderr.print("\nstopped; the same command again goes on from here")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)


# ---- inside


def _tell(name: str, seed: int, **scores: float) -> None:
    """A score of a benchmark, as it comes."""
    stderr.print(f"{name}, seed {seed}: {', '.join(f'{k} {v:.3f}' for k, v in scores.items())}")


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the rest keep their defaults."""
    return {name: value for name, value in options.items() if value is not None}


def _pair(told: str) -> tuple[str, str]:
    step, equals, metric = told.partition("=")
    if not (step and equals):
        raise SettingsError(f"--metric {told} names no step; write STEP=METRIC, e.g. --metric positive=recall:0.95")
    return step, metric


def _run_settings(backend: str, engine: Engine, workers: int | None, *, retry_failed: bool) -> dict[str, Any]:
    chosen = {"backend": backend, "engine": engine.value, "workers": workers}
    return {**chosen, "retry_failed": retry_failed}


def _mine_settings(**given: Any) -> Any:
    from pydantic import ValidationError

    from langchain_falconer.graph import MineSettings

    try:
        return MineSettings.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise SettingsError(
            f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg'].removeprefix('Value error, ')}"
        ) from None


def _llm(model: str, *, timeout: float, price: str | None = None, **settings: Any) -> LLM:
    from pydantic import ValidationError

    from langchain_falconer.llm import LLM, LLMSettings

    prices: tuple[float, float] | None = None
    if price is not None:
        try:
            paid_in, paid_out = map(float, price.split(","))
            prices = (paid_in, paid_out)
        except ValueError:
            prices = None
        if prices is None or not all(0 <= usd < float("inf") for usd in prices):
            raise SettingsError(
                f"--price '{price}' is not IN,OUT in USD per million tokens; write e.g. --price 0.4,1.6"
            ) from None
    try:
        checked = LLMSettings(timeout_s=timeout, usd_per_million_tokens=prices, **settings)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise SettingsError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    return LLM(model, checked)


def _registry(home: Path | None) -> Registry:
    from langchain_falconer.graph import Home

    return Home.at(home).registry


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path} ({error.strerror}); name a file that is there") from None


def _mined(falconer: Falconer, instruction: str, corpus: Any, output: str | Path, **options: Any) -> MiningResult:
    from langchain_falconer.corpus import place

    paths = [place(p) for p in corpus] if isinstance(corpus, list) else corpus
    with _progress() as show:
        return falconer.mine(instruction, paths, output, on_event=show, **options)


def _finish(result: MiningResult, report: Path | None, as_json: bool) -> None:
    from langchain_falconer.report import print_summary

    summary = {**result.summary, **({"report": str(result.report(report))} if report else {})}
    if as_json:
        _print_json(summary)
    else:
        print_summary(summary, stdout)


_STAGES = {
    "distil": "labelling (LLM)",
    "pretrain": "pretraining",
    "plan": "planning",
    "sample": "reading the corpus",
    "annotate": "annotating (LLM)",
    "train": "training the proxy",
    "evaluate": "measuring",
    "execute": "running the proxy",
    "report": "writing the report",
}


@contextmanager
def _progress() -> Iterator[Any]:
    """Progress bars on stderr: a line a stage, with pace and time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:22}"),
        BarColumn(28),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr) as progress:
        tasks: dict[str, Any] = {}

        def show(event: dict[str, Any]) -> None:
            if note := event.get("note"):
                progress.console.print(note, markup=False, highlight=False)
                return
            stage = event["stage"]
            if stage not in tasks:
                tasks[stage] = progress.add_task(_STAGES.get(stage, stage), total=None, pace="")
            task = tasks[stage]
            if event.get("event") == "end":
                total = progress.tasks[task].total or progress.tasks[task].completed or 1
                progress.update(task, total=total, completed=total)
            elif "done" in event:
                progress.update(task, completed=event["done"], total=event.get("total"))
                speed = progress.tasks[task].finished_speed or progress.tasks[task].speed
                if speed:
                    progress.update(task, pace=f"{speed:,.1f}/s")

        show.progress = progress  # type: ignore[attr-defined]
        global _live
        _live = progress
        try:
            yield show
        finally:
            _live = None


_live: Any = None


def _review(question: dict[str, Any]) -> Review:
    """Show the plan and ask for approval, an edit or a rejection."""
    from langchain_falconer.graph import Review

    if _live:
        _live.stop()
    try:
        _show_code(question["pseudocode"], stderr)
        if question.get("error"):
            stderr.print(f"That plan does not hold together: {question['error']}", style="red", markup=False)
        answer = (
            typer.prompt("Is this plan right? [a]pprove, [e]dit, [r]eject", default="a", err=True).strip().lower()[:1]
        )
        if answer == "e":
            import click

            text = click.edit(json.dumps(question["plan"], indent=2, ensure_ascii=False), extension=".json")
            try:
                return Review(action="edit", plan=json.loads(text)) if text else Review(action="approve")
            except ValueError:
                return Review(action="edit", plan={})
        return Review(action="reject", reason="rejected at the terminal") if answer == "r" else Review(action="approve")
    finally:
        if _live:
            _live.start()


def _show_code(code: str, console: Console) -> None:
    from rich.syntax import Syntax

    console.print(Syntax(code, "python", word_wrap=True, background_color="default"))


def _show_costs(costs: Decision) -> None:
    """Every way to the answer, the one that would be tried first on top, and where training breaks even."""
    from rich.table import Table

    table = Table("way", "texts for the LLM", "tokens", "USD", "seconds", "why", title="Ways to the answer (estimates)")
    for way in (costs.taken, *costs.others):
        usd = "?" if way.usd is None else f"{way.usd:.4f}"
        table.add_row(way.name, f"{way.texts:,}", f"{way.tokens:,}", usd, f"{way.seconds:,.0f}", way.reason)
    stdout.print(table)
    even = costs.break_even
    by_seconds = f"{even['texts_by_seconds']:,}" if even["texts_by_seconds"] is not None else "never"
    stdout.print(
        f"training costs less than asking the LLM about each text from {even['texts_by_tokens']:,} texts on in tokens, "
        f"in seconds from {by_seconds}"
    )


def _show_benchmark(found: dict[str, Any], as_json: bool) -> None:
    from rich.table import Table

    if as_json:
        _print_json(found)
        return
    table = Table(*found["columns"], title=found["title"])
    for row in found["rows"]:
        table.add_row(*map(str, row))
    stdout.print(table)
    stdout.print(found["verdict"], markup=False)


def _print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    main()
