"""Corpora as streams of documents from files, URLs and objects in memory, each with a unique id."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from langchain_falconer.corpus.columns import read_row, record_line, too_long
from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.corpus.readers import RowReader, find_readers, object_reader, translate_errors
from langchain_falconer.corpus.unique_ids import UniqueIds
from langchain_falconer.errors import CorpusError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place, Url, as_place

_DEFAULTS = CorpusSettings()


def open_corpus(
    source: Any = None, settings: CorpusSettings = _DEFAULTS, *, texts: Sequence[str] | None = None
) -> Corpus:
    """Open a corpus and find its columns; the rows are read when it is iterated.

    Args:
        source: A file, folder or URL (``str``, ``Path`` or :class:`Url`), or a list of them; a list of mappings or of
            LangChain documents; a LangChain loader; or a Hugging Face dataset.
        settings: How to read it.
        texts: The texts themselves, in place of ``source``.

    Raises:
        CorpusError: There is nothing to read, or the column of the text cannot be determined.
    """
    if (source is None) == (texts is None):
        raise CorpusError("pass either a source (files or documents) or texts")
    return open_source(source if texts is None else texts, settings, once=False, is_text=texts is not None)


def files_of(source: Any) -> list[Place] | None:
    """Return the files that a source names: a path or URL, or a list of them; None where it is something else.

    Raises:
        CorpusError: A list mixes paths with other things.
    """
    items = list(source) if isinstance(source, list | tuple) else [source]
    are_paths = [isinstance(item, str | Path | Url) for item in items]
    if not any(are_paths):
        return None
    if not all(are_paths):
        raise CorpusError("the list mixes paths with other things; pass paths only, documents only, or texts=[…]")
    return [as_place(item) for item in items]


def open_corpus_files(paths: Sequence[str | Place], settings: CorpusSettings = _DEFAULTS) -> Corpus:
    """Open files and folders as one corpus, in order.

    Formats are JSON Lines, JSON arrays, CSV, TSV, plain text (each gzipped or not), Parquet, Excel, folders of one of
    these, and Hugging Face datasets saved on disk.

    The id of a row without one is its number from 0, after "FILE:" if there are several files;
    the id of a text file is its path in the folder.

    Args:
        paths: Paths, or URLs that fsspec supports (``s3://…``).
        settings: How to read them.

    Raises:
        CorpusError: There is nothing to read, or the column of the text cannot be determined.
    """
    if not paths:
        raise CorpusError("there are no files; name at least one file or folder")
    places = [as_place(path) for path in paths]
    return Corpus(find_readers(places, settings), [_absolute(place) for place in places], settings)


def _absolute(place: Place) -> str:
    return str(place) if isinstance(place, Url) else os.path.abspath(place.expanduser())  # noqa: PTH100 (links stay)


def open_source(source: Any, settings: CorpusSettings, *, once: bool, is_text: bool) -> Corpus:
    """Open a corpus as :func:`open_corpus` does; one that is read ``once`` may be an iterator.

    Strings in ``source`` are paths, or texts if ``is_text``.
    """
    if not is_text and (places := files_of(source)) is not None:
        return open_corpus_files(places, settings)
    reader = object_reader(source, once=once)
    return Corpus([reader], [reader.name], settings)


class Corpus:
    """Documents in order, created by :func:`open_corpus`; every iteration starts at the first one.

    Iterating yields :class:`Document`, and with ``on_bad_row="record"`` also :class:`BadRow`. It raises
    :class:`CorpusError` for a bad row otherwise (but for one that is merely without text), for two rows with the same
    id, for a truncated file, and at the end of a corpus without texts.

    Memory is flat: ids are compared by hashes that move to a temporary file.

    Attributes:
        sources: Absolute paths, URLs without credentials, or the type of the object.
        settings: How it is read.
    """

    def __init__(self, parts: Sequence[RowReader], sources: list[str], settings: CorpusSettings) -> None:
        self.sources = sources
        self.settings = settings
        self._parts = [(part, part.layout(settings)) for part in parts]
        unknown = frozenset.intersection(*(layout.unknown for _, layout in self._parts))
        if unknown:
            message = f"{', '.join(sources)}: there is no column '{min(unknown)}' to keep; correct --keep (keep=)"
            raise CorpusError(message, column=min(unknown))

    @property
    def guessed_columns(self) -> list[str]:
        """The columns that were taken for the text by their names, nobody having named one."""
        return list(dict.fromkeys(layout.text for _, layout in self._parts if layout.text and layout.text_is_guessed))

    def __iter__(self) -> Iterator[Document | BadRow]:
        has_ids = any(layout.id for _, layout in self._parts)
        count = n_empty = 0
        with UniqueIds() as ids:
            for count, (record, part, at) in enumerate(self._records(), start=1):
                if has_ids and not ids.add(record.id):
                    self._check_unique(record.id, part, at, count - 1)
                if isinstance(record, BadRow):
                    n_empty += record.is_empty
                    if self.settings.on_bad_row == "fail" and not record.is_empty:
                        raise _bad_row_error(record)
                yield record
        if n_empty == count:
            self._raise_no_text(count)

    def _raise_no_text(self, count: int) -> NoReturn:
        columns = ", ".join(dict.fromkeys(f"'{layout.text}'" for _, layout in self._parts if layout.text))
        fault = f"none of the {count:,} rows has a text" if count else "there are no rows"
        fix = "give at least one text"
        if count and columns:
            fault += f" in the column {columns}"
            fix = "name the column of the text with --text-column (text_column=)"
        raise CorpusError(f"{', '.join(self.sources)}: {fault}; {fix}")

    @cached_property
    def fingerprint(self) -> str:
        """A digest (16 hex digits) of the settings and of the files (path, size, time) or the texts in memory."""
        digest = hashlib.sha256(json.dumps(self.settings.model_dump(), sort_keys=True).encode())
        files = [file for part, _ in self._parts for file in part.files]
        for file in files:
            with translate_errors(file):
                digest.update(json.dumps(_file_stamp(file)).encode())
        if not files:
            for record in self.records():
                digest.update(record_line(record))
        return digest.hexdigest()[:16]

    def texts_digest(self) -> str:
        """Read the corpus and return a digest (16 hex digits) of its sources and texts, but not of other columns."""
        digest = hashlib.sha256(json.dumps(self.sources).encode())
        for record in self.records():
            digest.update(repr(record.text if isinstance(record, Document) else None).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    def records(self) -> Iterator[Document | BadRow]:
        """Yield documents and bad rows without a check of ids, of bad rows or of emptiness."""
        return (record for record, _, _ in self._records())

    def _records(self) -> Iterator[tuple[Document | BadRow, RowReader, int]]:
        limit = self.settings.max_row_bytes
        for part, layout in self._parts:
            is_single = len(self._parts) == 1 and not layout.id
            prefix = "" if is_single or not part.label else f"{part.label}:"
            for row in part.rows(layout):
                yield read_row(row, layout, prefix, limit, part.where), part, row.at

    def _check_unique(self, record_id: str, part: RowReader, at: int, before: int) -> None:
        """Raise ``CorpusError`` if one of the first ``before`` rows has the same id, and not only the same hash."""
        first: str | None = "an earlier row"
        if part.replayable:
            earlier = islice(self._records(), before)
            first = next((p.where(a) for record, p, a in earlier if record.id == record_id), None)
            if first is None:
                return
        shown = record_id if len(record_id) <= 80 else f"{record_id[:80]}…"
        raise CorpusError(
            f"{part.where(at)} has the id '{shown}' of {first}; name a column of unique ids with --id-column, "
            "or number the rows with --id-column '' (id_column='')"
        )


def _file_stamp(file: Place) -> list[Any]:
    """Return path, size and time of a file. Raises ``OSError``."""
    if isinstance(file, Url):
        return list(file.etag())
    stat = file.stat()
    return [_absolute(file), stat.st_size, stat.st_mtime_ns]


def _bad_row_error(bad: BadRow) -> CorpusError:
    fix = f"{bad.fix or 'correct the row'}, or keep such rows as records with --bad-rows record (on_bad_row='record')"
    return CorpusError(f"{bad.where}: {bad.reason}; {fix}")


def materialize(source: Any, folder: Path, settings: CorpusSettings = _DEFAULTS, *, is_text: bool = False) -> Path:
    """Write a source to ``folder/<hash of the content>.jsonl``, so that a run can refer to it by path.

    Args:
        source: What :func:`open_corpus` takes, or an iterator, which is read once.
        folder: Created if it does not exist.
        settings: How to read the source. Read the written file with the same ``on_bad_row`` and ``max_row_bytes``, and
            without column names.
        is_text: Whether strings in ``source`` are texts rather than paths.

    Returns:
        The file, complete on disk. The same content gives the same file, which is then not written again;
        :func:`open_corpus` reads the same records (ids, texts, metadata, bad rows) from it.

    Raises:
        CorpusError: The source cannot be read, or the folder cannot be written.
    """
    from filelock import FileLock

    corpus = open_source(source, settings, once=True, is_text=is_text)
    digest = hashlib.blake2b(digest_size=16)
    part: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as file:
            part = Path(file.name)
            for line in _lines(corpus, settings):
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        target = folder / f"{digest.hexdigest()}.jsonl"
        with FileLock(folder / ".lock"):  # the first of several processes writes it, so that its time never changes
            if not target.exists():
                part.replace(target)
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror}; free space or choose another folder"
        raise CorpusError(message, path=folder) from error
    finally:
        if part:
            part.unlink(missing_ok=True)
    return target


def _lines(corpus: Iterable[Document | BadRow], settings: CorpusSettings) -> Iterator[bytes]:
    """Yield records as lines that a reader with the same settings accepts."""
    limit = settings.max_row_bytes
    for number, record in enumerate(corpus):
        line = record_line(record)
        if len(line) > limit + 1:
            bad = BadRow(record.id, f"as JSON, {too_long(limit)}", f"row {number}")
            if settings.on_bad_row == "fail":
                raise _bad_row_error(bad)
            line = record_line(bad)
        yield line
