"""The output file: JSONL, Parquet or DuckDB, by its extension, put in place whole."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from langchain_falconer.errors import FalconerError, RunError
from langchain_falconer.files import replacing
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.urls import Place, Url

Facts = Mapping[str, Any]
"""Where rows come from (plan, proxy, version, corpus), as JSON data."""
_ROWS_A_GROUP = 2_000
_NO_DUCKDB = "DuckDB is not installed; run: pip install 'langchain-falconer[duckdb]', or choose .jsonl or .parquet"


def check_output(path: Place) -> None:
    """Refuse early what could not be written at the end: a file, or a URL that fsspec knows. Raises ``RunError``."""
    if path.suffix not in _WRITERS:
        raise RunError(f"the output '{path}' must end in {', '.join(_WRITERS)}")
    if path.suffix == ".duckdb" and importlib.util.find_spec("duckdb") is None:
        raise RunError(_NO_DUCKDB)
    if isinstance(path, Url):
        _check_url(path)
    elif not path.parent.is_dir():
        raise RunError(f"the folder of the output '{path}' does not exist; create it first")
    elif path.is_dir():
        raise RunError(f"the output '{path}' is a folder; name a file")
    elif not os.access(path.parent, os.W_OK):
        raise RunError(f"the folder of the output '{path}' is not writable; choose another place")


def _check_url(url: Url) -> None:
    if url.suffix == ".duckdb":
        raise RunError(f"a DuckDB database is a file of this machine; end the output '{url}' in .parquet or .jsonl")
    try:
        url.check()
    except FalconerError as error:
        raise RunError(str(error)) from None


def write_output(plan: Plan, shards: Sequence[Path], path: Place, facts: Facts) -> None:
    """Join finished shards into ``path``; a file that is there stays until the new one is complete.

    What goes to a URL is first put together beside the shards.

    Parquet carries ``facts`` in its schema's metadata, each as JSON under ``falconer.NAME``; DuckDB has one table
    ``rows`` of the same columns, with the facts in its comment.
    """
    if isinstance(path, Url):
        with tempfile.TemporaryDirectory(dir=shards[0].parent) as folder:
            whole = Path(folder) / f"rows{path.suffix}"
            _WRITERS[path.suffix](plan, shards, whole, facts)
            path.upload(whole)
        return
    with replacing(path) as partial:
        _WRITERS[path.suffix](plan, shards, partial, facts)


def _write_jsonl(plan: Plan, shards: Sequence[Path], path: Path, facts: Facts) -> None:
    with path.open("wb") as out:
        for shard in shards:
            with shard.open("rb") as rows:
                shutil.copyfileobj(rows, out)


def _write_parquet(plan: Plan, shards: Sequence[Path], path: Path, facts: Facts) -> None:
    import pyarrow.parquet as pq

    schema = parquet_schema(plan, facts)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(shards, schema):
            writer.write_batch(batch)


def _write_duckdb(plan: Plan, shards: Sequence[Path], path: Path, facts: Facts) -> None:
    import duckdb
    import pyarrow as pa

    schema = parquet_schema(plan, facts)
    comment = json.dumps(facts, ensure_ascii=False).replace("'", "''")
    try:
        with duckdb.connect(str(path)) as database:
            database.register("incoming", pa.RecordBatchReader.from_batches(schema, _batches(shards, schema)))
            database.execute("CREATE TABLE rows AS SELECT * FROM incoming")
            database.execute(f"COMMENT ON TABLE rows IS '{comment}'")
    except duckdb.Error as error:  # a full disk, say
        raise OSError(str(error).partition("\n")[0]) from None


_Writer = Callable[[Plan, Sequence[Path], Path, Facts], None]
_WRITERS: dict[str, _Writer] = {".jsonl": _write_jsonl, ".parquet": _write_parquet, ".duckdb": _write_duckdb}


def _batches(shards: Sequence[Path], schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for shard in shards:
        with shard.open(encoding="utf-8") as lines:
            rows = [_typed(json.loads(line)) for line in lines]
        yield from pa.Table.from_pylist(rows, schema=schema).to_batches(_ROWS_A_GROUP)


def read_rows(path: Place) -> Iterator[dict[str, Any]]:
    """The result rows in a file that a run wrote: the same rows, whatever its format."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with ExitStack() as stack:
            source = stack.enter_context(path.open("rb")) if isinstance(path, Url) else path
            for batch in pq.ParquetFile(source).iter_batches(_ROWS_A_GROUP):
                yield from map(_untyped, batch.to_pylist())
    elif path.suffix == ".duckdb":
        import duckdb

        with duckdb.connect(str(path), read_only=True) as database:
            found = database.execute("SELECT * FROM rows")
            names = [column[0] for column in found.description]
            while rows := found.fetchmany(_ROWS_A_GROUP):
                yield from (_untyped(dict(zip(names, row, strict=True))) for row in rows)
    else:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def parquet_schema(plan: Plan, facts: Facts | None = None) -> Any:
    """The columns of a result: the contract's row with a field a step; yes/no as bool, multi-label as list."""
    import pyarrow as pa

    top = _answer_fields(plan, plan.top_level)
    decided = pa.struct([(s.id, pa.string()) for s in plan.top_level])
    columns = [("id", pa.string()), ("text", pa.string()), *top, ("match", pa.bool_()), ("decided_by", decided)]
    columns += [("uncertain", pa.bool_()), ("metadata", pa.string()), ("error", pa.string())]
    told = {"plan": plan.to_dict(), **(facts or {})}
    return pa.schema(columns, {f"falconer.{name}": json.dumps(fact, ensure_ascii=False) for name, fact in told.items()})


def _answer_fields(plan: Plan, steps: Sequence[LabelStep | SpanStep]) -> list[Any]:
    """The ``labels`` and ``spans`` columns; a struct without fields is no Parquet column, so it is left out."""
    import pyarrow as pa

    labels = [
        (s.id, pa.struct([("value", _value_type(s)), ("score", pa.float64())]))
        for s in steps
        if isinstance(s, LabelStep)
    ]
    spans = []
    for step in steps:
        if isinstance(step, SpanStep):
            inner = [("start", pa.int64()), ("end", pa.int64()), ("text", pa.string()), ("score", pa.float64())]
            spans.append((step.id, pa.list_(pa.struct([*inner, *_answer_fields(plan, plan.children(step.id))]))))
    return [(name, pa.struct(fields)) for name, fields in (("labels", labels), ("spans", spans)) if fields]


def _value_type(step: LabelStep) -> Any:
    import pyarrow as pa

    return {"yes_no": pa.bool_(), "choice": pa.string(), "multi": pa.list_(pa.string())}[step.kind]


def _untyped(row: dict[str, Any]) -> dict[str, Any]:
    row = _without_none(row)
    if "metadata" in row:
        row["metadata"] = json.loads(row["metadata"])
    return row if "error" in row else {"id": row["id"], "text": row["text"], "labels": {}, "spans": {}, **row}


def _without_none(value: Any) -> Any:
    """What was absent comes back from Parquet as null."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"metadata": json.dumps(row["metadata"], ensure_ascii=False)} if "metadata" in row else row
