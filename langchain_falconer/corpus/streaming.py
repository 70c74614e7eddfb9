"""A corpus: documents, streamed as often as wanted from wherever they lie, each under an id of its own."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from langchain_falconer.corpus.columns import RowReader, read_row, record_line, too_long
from langchain_falconer.corpus.documents import BadRow, Document
from langchain_falconer.corpus.file_readers import find_parts, reading
from langchain_falconer.corpus.object_readers import ObjectReader, find_items
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
    if isinstance(source, str | Path | Url):
        return [as_place(source)]
    if not isinstance(source, list | tuple) or not any(isinstance(item, str | Path | Url) for item in source):
        return None
    if not all(isinstance(item, str | Path | Url) for item in source):
        raise CorpusError("the list mixes paths with other things; pass paths only, documents only, or texts=[…]")
    return [as_place(item) for item in source]


def open_corpus_files(paths: Sequence[str | Place], settings: CorpusSettings = _DEFAULTS) -> Corpus:
    """Opens files and folders as one corpus, in order: paths, or URLs that fsspec knows (``s3://…``).

    JSONL, CSV, TSV, plain text (each gzipped or not), Parquet, folders of one of these, and Hugging Face datasets
    saved on disk. A row without an id is known by its number from 0, after "FILE:" if there are several files; a
    text file by its path below the folder.

    Raises:
        CorpusError: There is nothing to read, or it cannot be told which column holds the text.
    """
    if not paths:
        raise CorpusError("no file was given; name at least one file or folder")
    places = [as_place(path) for path in paths]
    return Corpus(find_parts(places, settings.max_row_bytes), [_source(one) for one in places], settings)


def _source(path: Place) -> str:
    return str(path) if isinstance(path, Url) else os.path.abspath(path.expanduser())  # noqa: PTH100 (links stay)


def open_source(source: Any, settings: CorpusSettings, *, once: bool, is_text: bool) -> Corpus:
    """Open a corpus that is read ``once``, or as often as wanted; see :func:`open_corpus`."""
    if not is_text and (places := files_of(source)) is not None:
        return open_corpus_files(places, settings)
    items: ObjectReader = find_items(source, once=once)
    return Corpus([items], [items.name], settings)


class Corpus:
    """Documents in order; every iteration starts anew. Made by :func:`open_corpus`.

    Iterating gives :class:`Document`, and with ``on_bad_row="record"`` also :class:`BadRow`. It raises
    :class:`CorpusError` for a bad row otherwise, for two rows of one id, for a file that breaks off, and at the end
    of a corpus without rows. Memory is flat: ids that rows bring along are
    compared by hashes that move to a temporary file.

    Attributes:
        sources: What is read, in words: absolute paths, URLs without credentials, or the kind of object.
        settings: How it is read.
    """

    def __init__(self, parts: Sequence[RowReader], sources: list[str], settings: CorpusSettings) -> None:
        self.sources = sources
        self.settings = settings
        self._parts = [(part, part.layout(settings)) for part in parts]

    def __iter__(self) -> Iterator[Document | BadRow]:
        own_ids = any(layout.id for _, layout in self._parts)
        count = 0
        with UniqueIds() as ids:
            for count, (record, part, at) in enumerate(self._records(), start=1):
                if own_ids and not ids.add(record.id):
                    self._check_unique(record.id, part, at, count - 1)
                if isinstance(record, BadRow) and self.settings.on_bad_row == "fail":
                    raise _failure(record)
                yield record
        if not count:
            raise CorpusError(f"{', '.join(self.sources)}: there are no rows; give at least one text")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the settings and the files (path, size, time) or the texts in memory."""
        digest = hashlib.sha256(json.dumps(self.settings.model_dump(), sort_keys=True).encode())
        files = [file for part, _ in self._parts for file in part.files]
        for file in files:
            with reading(file):
                digest.update(json.dumps(_stamp(file)).encode())
        if not files:
            for record, _, _ in self._records():
                digest.update(record_line(record))
        return digest.hexdigest()[:16]

    def _records(self) -> Iterator[tuple[Document | BadRow, RowReader, int]]:
        limit = self.settings.max_row_bytes
        for part, layout in self._parts:
            alone = len(self._parts) == 1 and not layout.id
            prefix = "" if alone or not part.label else f"{part.label}:"
            for row in part.rows(layout):
                yield read_row(row, layout, prefix, limit, part.where), part, row.at

    def _check_unique(self, record_id: str, part: RowReader, at: int, before: int) -> None:
        """Reads again up to the row of the same hash: to name its place, and to tell a mere clash of hashes."""
        first = "an earlier one"
        if part.replayable:
            earlier = islice(self._records(), before)
            found = next((p.where(a) for record, p, a in earlier if record.id == record_id), None)
            if found is None:
                return
            first = found
        shown = record_id if len(record_id) <= 80 else f"{record_id[:80]}…"
        raise CorpusError(
            f"{part.where(at)} has the id '{shown}' of {first}; name a column of unique ids with --id-column, "
            "or have the rows numbered with --id-column '' (id_column='')"
        )


def _stamp(file: Place) -> list[Any]:
    """Where a file lies, its size and its time. Raises ``OSError``."""
    if isinstance(file, Url):
        return [*file.etag()]
    stat = file.stat()
    return [os.path.abspath(file), stat.st_size, stat.st_mtime_ns]  # noqa: PTH100


def _failure(bad: BadRow) -> CorpusError:
    return CorpusError(
        f"{bad.where}: {bad.reason}; mend the row, or keep such rows as records with --bad-rows record "
        "(on_bad_row='record')"
    )


def materialize(source: Any, folder: Path, settings: CorpusSettings = _DEFAULTS, *, is_text: bool = False) -> Path:
    """Streams a source into ``folder/<hash of the content>.jsonl``, so that a run can refer to it by path.

    Args:
        source: What :func:`open_corpus` takes, or an iterator, which is read once.
        folder: Made if need be.
        is_text: Whether strings in ``source`` are texts rather than paths.
        settings: How to read the source; read the file that was written with the same ``on_bad_row`` and
            ``max_row_bytes``, and no columns named.

    Returns:
        The file, complete on disk. The same content gives the same file, which is then not written again;
        :func:`open_corpus` gives the same records (ids, texts, metadata, bad rows) back from it.

    Raises:
        CorpusError: As iterating the source raises, or the folder cannot be written.
    """
    from filelock import FileLock

    corpus = open_source(source, settings, once=True, is_text=is_text)
    digest = hashlib.blake2b(digest_size=16)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    except OSError as error:
        raise CorpusError(f"{folder} cannot be written: {error.strerror}; choose another folder") from None
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for line in _lines(corpus, settings):
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        target = folder / f"{digest.hexdigest()}.jsonl"
        with FileLock(folder / ".lock"):  # of several at once the first writes, and its file keeps its time
            if not target.exists():
                part.replace(target)
    except OSError as error:
        raise CorpusError(f"{folder} cannot be written: {error.strerror}; free some space or choose another") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def _lines(corpus: Iterable[Document | BadRow], settings: CorpusSettings) -> Iterator[bytes]:
    """Records as lines, none longer than what a reader with the same settings takes."""
    limit = settings.max_row_bytes
    for number, record in enumerate(corpus):
        line = record_line(record)
        if len(line) > limit + 1:
            bad = BadRow(record.id, f"as JSON, {too_long(limit)}", f"row {number}")
            if settings.on_bad_row == "fail":
                raise _failure(bad)
            line = record_line(bad)
        yield line
