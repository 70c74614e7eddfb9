"""The output file: JSONL or Parquet, put in place whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_falconer._files import replacing
from langchain_falconer.errors import RunError
from langchain_falconer.plan import LabelStep, Plan, SpanStep

_ROWS_A_GROUP = 2_000


def check_output(path: Path) -> None:
    """Refuse early what could not be written at the end. Raises ``RunError``."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise RunError(f"the output '{path}' must end in .jsonl or .parquet")
    if not path.parent.is_dir():
        raise RunError(f"the folder of the output '{path}' does not exist; create it first")
    if path.is_dir():
        raise RunError(f"the output '{path}' is a folder; name a file")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"the folder of the output '{path}' is not writable; choose another place")


def write_output(plan: Plan, shards: Sequence[Path], path: Path) -> None:
    """Join finished shards into ``path``; a file that is there stays until the new one is complete."""
    with replacing(path) as partial:
        if path.suffix == ".parquet":
            _write_parquet(plan, shards, partial)
        else:
            with partial.open("wb") as out:
                for shard in shards:
                    with shard.open("rb") as rows:
                        shutil.copyfileobj(rows, out)


def _write_parquet(plan: Plan, shards: Sequence[Path], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = parquet_schema(plan)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for shard in shards:
            for rows in _groups(shard):
                writer.write_table(pa.Table.from_pylist([_typed(row) for row in rows], schema=schema))


def _groups(shard: Path) -> Iterator[list[dict[str, Any]]]:
    with shard.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for at in range(0, len(rows), _ROWS_A_GROUP):
        yield rows[at : at + _ROWS_A_GROUP]


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The result rows in a file that a run wrote, JSONL or Parquet: the same rows either way."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(_ROWS_A_GROUP):
            yield from map(_untyped, batch.to_pylist())
    else:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def parquet_schema(plan: Plan) -> Any:
    """The columns of a result: the contract's row with a field a step; yes/no as bool, multi-label as list."""
    import pyarrow as pa

    top = _answer_fields(plan, plan.top_level)
    decided = pa.struct([(s.id, pa.string()) for s in plan.top_level])
    columns = [("id", pa.string()), ("text", pa.string()), *top, ("match", pa.bool_()), ("decided_by", decided)]
    columns += [("uncertain", pa.bool_()), ("metadata", pa.string()), ("error", pa.string())]
    return pa.schema(columns, metadata={"falconer.plan": json.dumps(plan.to_dict(), ensure_ascii=False)})


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
            spans.append((step.id, pa.list_(pa.struct([*inner, *_answer_fields(plan, plan.asked_of(step.id))]))))
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
