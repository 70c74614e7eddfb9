"""Output files in JSONL, Parquet, DuckDB, CSV or Excel, by extension, written atomically."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any, cast

from langchain_falconer.errors import FalconerError, RunError
from langchain_falconer.execute.flat_rows import Cell, FlatTable
from langchain_falconer.files import replacing
from langchain_falconer.plan import LabelStep, Plan, SpanStep
from langchain_falconer.records import ResultRow
from langchain_falconer.settings import RowUnit
from langchain_falconer.urls import Place, Url

Facts = Mapping[str, Any]
"""Provenance of rows (plan, proxy, version, corpus) as JSON data."""
_BATCH_ROWS = 2_000
_NO_OPENPYXL = "Excel files need openpyxl; run: pip install 'langchain-falconer[excel]', or end the output in .csv"
_EXCEL_ROWS, _EXCEL_CHARS = 1_048_576, 32_767
_NO_DUCKDB = "DuckDB is not installed; run: pip install 'langchain-falconer[duckdb]', or choose .jsonl or .parquet"


def check_output(path: Place, unit: RowUnit = "text") -> None:
    """Check early that an output, a file or a URL that fsspec knows, can be written. Raises ``RunError`` if not."""
    if path.suffix not in (*_WRITERS, *_FLAT_WRITERS):
        raise RunError(f"the output '{path}' must end in {', '.join((*_WRITERS, *_FLAT_WRITERS))}")
    if unit == "span" and not is_flat(path):
        raise RunError(f"one row a span is for .csv and .xlsx; end the output '{path}' so, or leave --row-unit out")
    if path.suffix == ".duckdb" and importlib.util.find_spec("duckdb") is None:
        raise RunError(_NO_DUCKDB)
    if path.suffix == ".xlsx" and importlib.util.find_spec("openpyxl") is None:
        raise RunError(_NO_OPENPYXL)
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
        raise RunError(str(error)) from error


def is_flat(path: Place) -> bool:
    """Return whether an output is for spreadsheets, from which :func:`read_rows` cannot read the rows again."""
    return path.suffix in _FLAT_WRITERS


def write_output(plan: Plan, shards: Sequence[Path], path: Place, facts: Facts, unit: RowUnit = "text") -> None:
    """Join finished shards into ``path``; an existing file stays until the new one is complete.

    An output at a URL is first written beside the shards, then uploaded. Parquet carries ``facts`` in its schema's
    metadata, each as JSON under ``falconer.NAME``; DuckDB has one table ``rows`` of the same columns, with the facts in
    its comment. CSV and Excel have flat rows (:class:`FlatTable`), one a ``unit``.
    """
    if isinstance(path, Url):
        with tempfile.TemporaryDirectory(dir=shards[0].parent) as folder:
            local = Path(folder) / f"rows{path.suffix}"
            write_output(plan, shards, local, facts, unit)
            path.upload(local)
        return
    with replacing(path) as partial:
        if is_flat(path):
            table = FlatTable(plan, _rows(shards), unit)
            flat = (cells for row in _rows(shards) for cells in table.flatten(row))
            _FLAT_WRITERS[path.suffix](table.columns, flat, partial)
        else:
            _WRITERS[path.suffix](plan, shards, partial, facts)


def _rows(shards: Sequence[Path]) -> Iterator[ResultRow]:
    return (row for shard in shards for row in read_rows(shard))


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
    except duckdb.Error as error:  # for example a full disk
        raise OSError(str(error).partition("\n")[0]) from error


def _write_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([str(cell).lower() if isinstance(cell, bool) else cell for cell in row] for row in rows)


def _write_excel(columns: Sequence[str], rows: Iterable[Sequence[Cell]], path: Path) -> None:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    book = Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    sheet.freeze_panes = "A2"

    def made(cell: Cell) -> object:
        if isinstance(cell, int) and abs(cell) >= 10**15:
            cell = str(cell)  # Excel has floats only
        if not isinstance(cell, str):
            return cell
        text = ILLEGAL_CHARACTERS_RE.sub("\ufffd", cell)
        text = text if len(text) <= _EXCEL_CHARS else f"{text[: _EXCEL_CHARS - 1]}…"
        string = WriteOnlyCell(sheet, text)
        string.data_type = "s"  # whatever it begins with, it is no formula
        return string

    for number, row in enumerate(chain([columns], rows)):
        if number == _EXCEL_ROWS:
            raise RunError(f"an Excel sheet has {_EXCEL_ROWS:,} rows at most; end the output in .csv or .parquet")
        sheet.append([made(cell) for cell in row])
    book.save(path)


_Writer = Callable[[Plan, Sequence[Path], Path, Facts], None]
_WRITERS: dict[str, _Writer] = {".jsonl": _write_jsonl, ".parquet": _write_parquet, ".duckdb": _write_duckdb}
_FLAT_WRITERS: dict[str, Callable[[Sequence[str], Iterable[Sequence[Cell]], Path], None]] = {
    ".csv": _write_csv,
    ".xlsx": _write_excel,
}


def _batches(shards: Sequence[Path], schema: Any) -> Iterator[Any]:
    import pyarrow as pa

    for shard in shards:
        with shard.open(encoding="utf-8") as lines:
            rows = [_to_columns(json.loads(line)) for line in lines]
        yield from pa.Table.from_pylist(rows, schema=schema).to_batches(_BATCH_ROWS)


def read_rows(path: Place) -> Iterator[ResultRow]:
    """Yield the result rows of an output file; they are the same in every format but those for spreadsheets."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with ExitStack() as stack:
            source = stack.enter_context(path.open("rb")) if isinstance(path, Url) else path
            for batch in pq.ParquetFile(source).iter_batches(_BATCH_ROWS):
                yield from map(_from_columns, batch.to_pylist())
    elif path.suffix == ".duckdb":
        import duckdb

        with duckdb.connect(str(path), read_only=True) as database:
            cursor = database.execute("SELECT * FROM rows")
            names = [column[0] for column in cursor.description]
            while rows := cursor.fetchmany(_BATCH_ROWS):
                yield from (_from_columns(dict(zip(names, row, strict=True))) for row in rows)
    else:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def parquet_schema(plan: Plan, facts: Facts | None = None) -> Any:
    """Return the Arrow schema of a result: one field per step; yes/no as bool, multi-label as list.

    Args:
        plan: The plan of the rows.
        facts: Provenance for the metadata of the schema.
    """
    import pyarrow as pa

    top = _answer_fields(plan, plan.top_level)
    decided = pa.struct([(s.id, pa.string()) for s in plan.top_level])
    columns = [("id", pa.string()), ("text", pa.string()), *top, ("match", pa.bool_()), ("decided_by", decided)]
    columns += [("uncertain", pa.bool_()), ("metadata", pa.string()), ("error", pa.string())]
    provenance = {"plan": plan.to_dict(), **(facts or {})}
    metadata = {f"falconer.{name}": json.dumps(fact, ensure_ascii=False) for name, fact in provenance.items()}
    return pa.schema(columns, metadata)


def _answer_fields(plan: Plan, steps: Sequence[LabelStep | SpanStep]) -> list[Any]:
    """Return the ``labels`` and ``spans`` columns without empty ones, because Parquet has no struct without fields."""
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


def _from_columns(columns: dict[str, Any]) -> ResultRow:
    row = _without_none(columns)
    if "metadata" in row:
        row["metadata"] = json.loads(row["metadata"])
    return cast(
        ResultRow, row if "error" in row else {"id": row["id"], "text": row["text"], "labels": {}, "spans": {}, **row}
    )


def _without_none(value: Any) -> Any:
    """Drop the nulls that Parquet returns for absent fields."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _to_columns(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"metadata": json.dumps(row["metadata"], ensure_ascii=False)} if "metadata" in row else row
