"""Documents in what a tool returned: LangChain documents, JSON, JSON Lines, rows of a database, or long text."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import ToolMessage

from langchain_falconer.corpus import split_passages
from langchain_falconer.corpus.columns import TEXT_NAMES, columns_of
from langchain_falconer.tools.base import encodable

_FEW = 10  # so few texts are files or pages rather than a collection, and are cut into passages
_PASSAGE_CHARS = 1_200
_MIN_MEAN_CHARS = 40  # of a column of strings that has no usual name, to be taken for the text
_MAX_DEPTH = 4
_DATES: Mapping[str, type[date]] = {"datetime.date": date, "datetime.datetime": datetime}


def text_of(message: ToolMessage) -> str:
    """Return the text that a model would read of a tool's message."""
    return "\n".join(_strings(message.content))


def documents_of(message: ToolMessage) -> list[Document]:
    """Return the documents in a tool's message: in its artifact if it holds some, else in its content.

    A few long texts are cut into passages, whose metadata has their number as ``passage``.
    """
    artifact = message.artifact
    if isinstance(artifact, list | tuple) and artifact and all(isinstance(one, Document) for one in artifact):
        documents = list(artifact)
    else:
        documents = _documents([record for text in _strings(message.content) for record in _records(_parse(text))])
    if len(documents) > _FEW:
        return documents
    return [passage for document in documents for passage in _passages(document)]


def _strings(content: str | Sequence[str | dict[str, Any]]) -> list[str]:
    blocks = [content] if isinstance(content, str) else content
    texts = [block if isinstance(block, str) else block.get("text") for block in blocks]
    return [text for text in texts if isinstance(text, str)]


# ---- from a string to records


def _parse(text: str) -> Any:
    """Return the data that a string holds as JSON, JSON Lines or a Python literal; else the string itself."""
    stripped = text.strip()
    if stripped[:1] + stripped[-1:] in ("[]", "{}", "()"):
        for parse in (json.loads, _json_lines, _literal):
            try:
                return parse(stripped)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # hostile nesting among them
                continue
    return text


def _json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _literal(text: str) -> Any:
    """Return the value of a Python literal that may hold LangChain documents, as LangChain prints them."""
    return _value(ast.parse(text, mode="eval").body)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element) for element in node.elts]
    if isinstance(node, ast.Call):
        return _constructed(ast.unparse(node.func), node)
    if isinstance(node, ast.Dict):
        return {str(_value(k)): _value(v) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    return ast.literal_eval(node)


def _constructed(name: str, call: ast.Call) -> Any:
    """Return a document as a mapping, and a date or decimal number of a database as its string."""
    if name == "Document":
        return {str(field.arg): _value(field.value) for field in call.keywords}
    arguments = [_value(argument) for argument in call.args]
    if name in _DATES:
        return _DATES[name](*arguments).isoformat()
    return str(arguments[0]) if name == "Decimal" and arguments else ast.unparse(call)


def _records(data: Any, depth: int = 0) -> list[Any]:
    """Return the records in data: the elements of a list, or those of the largest list in an object, or the data."""
    if isinstance(data, list):
        return data
    if isinstance(data, dict) and depth < _MAX_DEPTH:
        inner = [_records(value, depth + 1) for value in data.values() if isinstance(value, list | dict)]
        largest = max(inner, key=lambda records: len(str(records)), default=[])
        if len(str(largest)) > len(str(data)) / 2:
            return largest
    return [data]


# ---- from records to documents


def _documents(records: Sequence[Any]) -> list[Document]:
    rows = [_row(record) for record in records]
    column = _text_column([row for row in rows if not isinstance(row, str)])
    return [_document(row, column) for row in rows]


def _row(record: Any) -> Mapping[str, Any] | str:
    if isinstance(record, list):  # of a database
        return {f"column_{number}": cell for number, cell in enumerate(record, start=1)}
    if not isinstance(record, dict):
        return str(record)
    inner = record.get("kwargs")
    fields: dict[str, Any] = inner if "lc" in record and isinstance(inner, dict) else record
    text, metadata = fields.get("page_content"), fields.get("metadata")
    if isinstance(text, str):
        return {"text": text, **(metadata if isinstance(metadata, dict) else {})}
    return fields


def _text_column(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the column of the text: by its name, else the one with the longest strings; None if all are short."""
    columns = [column for column, is_string in columns_of(rows).items() if is_string]
    by_name = {column.lower(): column for column in reversed(columns)}
    if usual := next((by_name[name] for name in TEXT_NAMES if name in by_name), None):
        return usual
    chars = {name: sum(len(v) for row in rows if isinstance(v := row.get(name), str)) for name in columns}
    longest = max(chars, key=lambda name: chars[name], default="")
    return longest if longest and chars[longest] >= _MIN_MEAN_CHARS * len(rows) else None


def _document(row: Mapping[str, Any] | str, column: str | None) -> Document:
    if isinstance(row, str):
        return Document(encodable(row))
    if column is not None and isinstance(row.get(column), str):
        metadata = {str(name): cell for name, cell in row.items() if name != column}
        return Document(encodable(row[column]), metadata=metadata)
    return Document(encodable("; ".join(f"{name}: {cell}" for name, cell in row.items())), metadata=dict(row))


def _passages(document: Document) -> Iterator[Document]:
    text = document.page_content
    passages = split_passages(text, _PASSAGE_CHARS) if text.strip() else []
    if len(passages) < 2:
        yield document
        return
    for number, (start, end) in enumerate(passages, start=1):
        yield Document(text[start:end], metadata={**document.metadata, "passage": number})
