"""Sources of tasks from folders of annotated datasets, by their ``meta.json`` alone, and from the written texts."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from langchain_falconer.corpus import split_passages
from langchain_falconer.errors import CorpusError
from langchain_falconer.model import mark
from langchain_falconer.pretrain.tasks import LabelSource, Offsets, QuestionSource, Source, SpanSource
from langchain_falconer.pretrain.wordings import class_names, in_words, span_names

WRITTEN = Path(__file__).parent / "written"
"""Texts written for this project, with their questions and answers."""
_PASSAGE_CHARS = 500
_EMPTY_PASSAGES = 2
_MAX_LABEL_CHARS = 1_500  # the label of a long text says little about its parts
_MARK = re.compile(r"⟦([^⟦⟧|]+)\|([^⟦⟧|]+)⟧")


def read_datasets(folders: Iterable[Path], holdout: Iterable[str] = ()) -> dict[str, Source]:
    """Read every dataset in folders of datasets, but for those held out.

    A dataset is a folder with a ``meta.json`` (``instructions`` of its span types and label tasks, ``kind`` of its
    texts) and ``train.jsonl`` (rows of ``text``, ``labels``, ``spans``) or ``qa.jsonl`` (rows of ``text``,
    ``question``, ``answers``), either of them gzipped or not.

    Args:
        folders: Folders of datasets.
        holdout: Names of datasets that are not read.

    Returns:
        The sources by name: ``NAME/spans``, ``NAME/questions``, ``NAME/TASK``, and ``NAME/ATTRIBUTE`` for attributes
        of spans such as polarity.

    Raises:
        CorpusError: There is no dataset in a folder, or a row of one cannot be read.
    """
    sources: dict[str, Source] = {}
    held_out = set(holdout)
    for folder in folders:
        metas = sorted(folder.glob("*/meta.json"))
        if not metas:
            raise CorpusError(
                f"{folder} holds no dataset (a folder with a meta.json); name the folder of your datasets", path=folder
            )
        for meta in metas:
            if meta.parent.name not in held_out:
                sources |= _dataset(meta.parent)
    return sources


def _dataset(folder: Path) -> dict[str, Source]:
    try:
        meta = json.loads((folder / "meta.json").read_text("utf-8"))
        questions, rows = list(read_rows(folder, "qa")), list(read_rows(folder, "train"))
        sources = {"questions": _questions(questions), **_spans(rows, meta), **_attributes(rows), **_labels(rows, meta)}
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise CorpusError(
            f"the dataset in {folder} cannot be read ({error!r}); compare it with docs/how-it-works.md",
            path=folder,
        ) from error
    return {f"{folder.name}/{name}": source for name, source in sources.items() if source and len(source) >= 8}


def read_rows(folder: Path, part: str) -> Iterator[dict[str, Any]]:
    """Read the rows of ``train``, ``test`` or ``qa`` in the folder of a dataset; none where there is no such file."""
    for file in (folder / f"{part}.jsonl", folder / f"{part}.jsonl.gz"):
        if file.is_file():
            with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open("rb") as lines:
                yield from map(json.loads, lines)


def _questions(rows: Iterable[Mapping[str, Any]]) -> QuestionSource:
    return QuestionSource([(r["text"], r["question"], [(a, b) for a, b in r["answers"]]) for r in rows])


def _spans(rows: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Source]:
    instructions = meta.get("instructions", {}).get("spans", {})
    if not instructions:
        return {}
    passages = [
        passage
        for row in rows
        for passage in _passages(row["text"], [s for s in row["spans"] if s["label"] in instructions])
    ]
    names = {name: span_names(name, instruction) for name, instruction in instructions.items()}
    return {"spans": SpanSource(passages, names, meta.get("kind", "text"))}


def _passages(text: str, marked: list[dict[str, Any]]) -> list[tuple[str, dict[str, list[tuple[int, int]]]]]:
    """Return the passages of a text with their spans: all that hold some, and of the others two at most."""
    passages: list[tuple[str, dict[str, list[tuple[int, int]]]]] = []
    n_empty = 0
    for start, end in split_passages(text, _PASSAGE_CHARS):
        spans: dict[str, list[tuple[int, int]]] = {}
        for s in marked:
            if start <= s["start"] and s["end"] <= end:
                spans.setdefault(s["label"], []).append((s["start"] - start, s["end"] - start))
        n_empty += not spans
        if spans or n_empty <= _EMPTY_PASSAGES:
            passages.append((text[start:end], spans))
    return passages


def _attributes(rows: Iterable[Mapping[str, Any]]) -> dict[str, Source]:
    """Return a source for each attribute of spans, such as their polarity: a question about the marked span."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for row in rows:
        for span in row["spans"]:
            for key, value in span.items():
                if key not in ("start", "end", "label", "text") and isinstance(value, str):
                    marked = mark(row["text"], span["start"], span["end"])
                    found.setdefault(key, []).append((marked, [value]))
    return {
        name: LabelSource(
            pairs,
            {value: [in_words(value)] for value in sorted({classes[0] for _, classes in pairs})},
            [f"What is the {in_words(name)} of the marked words?", f"{in_words(name)} of the marked words"],
            topic=in_words(name),
        )
        for name, pairs in found.items()
    }


def _labels(rows: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for task, about in meta.get("instructions", {}).get("labels", {}).items():
        classes = about["classes"]
        described = classes if isinstance(classes, dict) else dict.fromkeys(classes)
        labelled = [
            (row["text"], row["labels"][task])
            for row in rows
            if row["labels"].get(task) is not None and len(row["text"]) <= _MAX_LABEL_CHARS
        ]
        several = any(isinstance(value, list) for _, value in labelled)
        pairs = [
            (text, [c for c in (value if isinstance(value, list) else [value]) if c in described])
            for text, value in labelled
        ]
        names = {name: class_names(name, description) for name, description in described.items()}
        answered = [(text, value) for text, value in pairs if value or several]
        sources[task] = LabelSource(
            answered, names, [about["prompt"]], meta.get("kind", "text"), exclusive=not several, topic=in_words(task)
        )
    return sources


def read_written(folder: Path = WRITTEN) -> dict[str, Source]:
    """Read the written texts: one source a domain of ``spans_*.txt``, one a question of ``labels_*.txt``.

    A domain begins with ``# NAME | kind of text | type: wording; wording | …``, a question with ``? WORDING || WORDING
    | kind of text`` (``??`` where several classes may fit) and lines ``= class: wording; wording``. The texts follow:
    spans stand as ``⟦words|type⟧``, classes as ``class > text``, or ``class + class > text``.

    Raises:
        CorpusError: A line names a type or class that its block does not declare.
    """
    sources: dict[str, Source] = {}
    for file in sorted(folder.glob("*.txt")):
        read = _domain if file.name.startswith("spans") else _question
        for number, block in enumerate(re.split(r"\n(?=[#?])", file.read_text("utf-8").strip())):
            try:
                sources[f"written/{file.stem}/{number}"] = read(block.splitlines())
            except (KeyError, ValueError) as error:
                raise CorpusError(f"block {number + 1} of {file} cannot be read: {error}", path=file) from error
    return sources


def _domain(lines: list[str]) -> SpanSource:
    _, kind, *types = (part.strip() for part in lines[0].split("|"))
    names = {}
    for name, wordings in (t.split(":", 1) for t in types):
        names[name.strip().lower()] = [w.strip() for w in wordings.split(";") if w.strip()]
    return SpanSource([_unmarked(line.strip(), names) for line in lines[1:] if line.strip()], names, kind.lower())


def _unmarked(line: str, names: Mapping[str, object]) -> tuple[str, Mapping[str, Offsets]]:
    text, spans, position = "", dict[str, list[tuple[int, int]]](), 0
    for found in _MARK.finditer(line):
        name = found[2].strip().lower()
        if name not in names:
            raise ValueError(f"no type '{name}' is declared")
        text += line[position : found.start()]
        spans.setdefault(name, []).append((len(text), len(text) + len(found[1])))
        text, position = text + found[1], found.end()
    return text + line[position:], spans


def _question(lines: list[str]) -> LabelSource:
    several, heading = lines[0].startswith("??"), lines[0].lstrip("? ")
    *wordings, last = heading.split("||")
    last, _, kind = last.partition("|")
    names: dict[str, list[str]] = {}
    rows: list[tuple[str, list[str]]] = []
    for line in filter(None, map(str.strip, lines[1:])):
        if line.startswith("="):
            name, _, described = line.lstrip("= ").partition(":")
            names[name.strip()] = [name.strip(), *(w.strip() for w in described.split(";") if w.strip())]
            continue
        left, _, text = line.partition(" > ")
        classes = [c.strip() for c in left.split(" + ")]
        classes = [] if several and classes == ["none"] and "none" not in names else classes
        if unknown := [c for c in classes if c not in names] or (not text):
            raise ValueError(f"'{line[:60]}' names no declared class ({unknown})")
        rows.append((text, classes))
    questions = [w.strip() for w in (*wordings, last)]
    return LabelSource(rows, names, questions, kind.strip().lower() or "text", exclusive=not several, max_options=12)
