"""Files as raw rows: JSON Lines, CSV and TSV, plain text, Parquet, saved Hugging Face datasets; each streamed."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from langchain_falconer.corpus.columns import (
    ColumnLayout,
    Row,
    RowError,
    RowReader,
    columns_of,
    decode,
    find_layout,
    parse_json,
    too_long,
)
from langchain_falconer.errors import CorpusError, FalconerError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place, Url

_PIECE = 1 << 16
_BATCH = 256


@contextmanager
def reading(path: Place) -> Iterator[None]:
    """Turns what may go wrong in reading a file into a sentence."""
    try:
        yield
    except EOFError:
        raise CorpusError(f"{path} is cut short: its gzip stream has no end; copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(f"{path} is not sound gzip ({error}); compress it again or drop the .gz") from None
    except OSError as error:
        # What a remote file system says may hold the address, credentials and all.
        why = error.strerror or (type(error).__name__ if isinstance(path, Url) else error)
        raise CorpusError(f"{path} cannot be read: {why}; check the file and its rights") from None
    except Exception as error:
        if isinstance(path, Url) and not isinstance(error, FalconerError | RowError | ValueError):
            raise CorpusError(f"{path} cannot be read: {type(error).__name__}; check it and try again") from None
        raise


@contextmanager
def _open(path: Place) -> Iterator[IO[bytes]]:
    with path.open("rb") as stream:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=stream) as unpacked:
                yield cast(IO[bytes], unpacked)
        else:
            yield stream


class _Quotes:
    """Follows the quotes of CSV (RFC 4180) through pieces of a line, to tell a record's end from a quoted newline."""

    def __init__(self, delimiter: bytes) -> None:
        self._delimiter = delimiter
        self.reset()

    def reset(self) -> None:
        self.inside = False
        self._plain = False  # in a field that began without a quote: quotes are literal there

    def feed(self, piece: bytes) -> None:
        inside, plain = self.inside, self._plain
        *befores, rest = piece.split(b'"')
        for before in befores:  # a quote follows: it closes, or opens at a field's begin, or opens again if doubled
            if inside:
                inside = False
                continue
            if before:
                plain = not before.endswith(self._delimiter)
            inside = not plain
        if rest and not inside:
            plain = not rest.endswith(self._delimiter)
        self.inside, self._plain = inside, plain


def _records(stream: IO[bytes], limit: int, quotes: _Quotes | None = None) -> Iterator[tuple[int, bytes | RowError]]:
    """(first line from 1, record without its newline); at most ``limit`` bytes are ever held. Empty lines are none."""
    kept: list[bytes] = []
    size, line, start = 0, 1, 1
    while piece := stream.readline(_PIECE):
        if start == 1 and size == 0:
            piece = _without_bom(piece)
        size += len(piece)
        if size <= limit + 2:
            kept.append(piece)
        else:
            kept.clear()
        if quotes:
            quotes.feed(piece)
        if not piece.endswith(b"\n"):
            continue
        line += 1
        if quotes and quotes.inside:
            continue
        yield from _record(start, kept, size, limit)
        kept.clear()
        size, start = 0, line
        if quotes:
            quotes.reset()
    if quotes and quotes.inside:
        raise CorpusError(
            f"line {start}: a quote that opens here never closes; close it or double the quotes in the field"
        )
    yield from _record(start, kept, size, limit)


def _record(start: int, kept: list[bytes], size: int, limit: int) -> Iterator[tuple[int, bytes | RowError]]:
    record = b"".join(kept).removesuffix(b"\n").removesuffix(b"\r")
    if len(record) > limit or size > limit + 2:
        yield start, too_long(limit)
    elif record:
        yield start, record


def _without_bom(piece: bytes) -> bytes:
    if piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise CorpusError("the file is UTF-16; save it as UTF-8")
    return piece.removeprefix(codecs.BOM_UTF8)


@dataclass(frozen=True)
class _File:
    """What the readers of one file have in common."""

    path: Place
    label: str
    limit: int
    replayable = True

    @property
    def files(self) -> tuple[Place, ...]:
        """Return the files that are read."""
        return (self.path,)

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} line {at}"

    def _read(self, quotes: _Quotes | None = None) -> Iterator[tuple[int, bytes | RowError]]:
        with reading(self.path), _open(self.path) as stream:
            try:
                yield from _records(stream, self.limit, quotes)
            except CorpusError as error:
                raise CorpusError(f"{self.path}: {error}") from None


class JsonLines(_File):
    """One JSON object, or bare string, a line."""

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return which columns hold text and id."""
        rows = self.rows(ColumnLayout(None))
        first = next(rows, None)
        if first is None:
            raise CorpusError(f"{self.path} is empty; give a file with at least one row")
        columns = columns_of(row.value for part in ([first], rows) for row in part)
        return find_layout(str(self.path), columns, settings)

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        lines = ((at, line) for at, line in self._read() if isinstance(line, RowError) or not line.isspace())
        for number, (line, record) in enumerate(lines):
            yield Row(number, line, record if isinstance(record, RowError) else _attempt(parse_json, record))


class Csv(_File):
    """Comma (or semicolon, or tab) separated values under a header; RFC 4180 quotes, newlines in them included."""

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return which columns hold text and id."""
        header = self._header(self._delimiter())
        return find_layout(str(self.path), dict.fromkeys(header, True), settings)

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        delimiter = self._delimiter()
        header = self._header(delimiter)
        places = [(column, header.index(column)) for column in layout.wanted(header)]
        field = _csv_field(delimiter.decode())

        def cells(record: bytes) -> Mapping[str, Any]:
            fields = _csv_fields(decode(record), field)
            if len(fields) != len(header):
                raise RowError(f"it has {len(fields)} fields where the header has {len(header)}")
            return {column: fields[place] for column, place in places}

        records = self._read(_Quotes(delimiter))
        next(records, None)
        for number, (line, record) in enumerate(records):
            yield Row(number, line, record if isinstance(record, RowError) else _attempt(cells, record))

    def _delimiter(self) -> bytes:
        if ".tsv" in self.path.suffixes[-2:]:
            return b"\t"
        with reading(self.path), _open(self.path) as stream:
            unquoted = re.sub(rb'"[^"]*"', b"", stream.readline(_PIECE))
        return max((b",", b";", b"\t"), key=unquoted.count)

    def _header(self, delimiter: bytes) -> list[str]:
        _, record = next(self._read(_Quotes(delimiter)), (0, None))
        if record is None:
            raise CorpusError(f"{self.path} is empty; give a file with a header and at least one row")
        try:
            if isinstance(record, RowError):
                raise record
            header = [name.strip() for name in _csv_fields(decode(record), _csv_field(delimiter.decode()))]
        except RowError as error:
            raise CorpusError(f"{self.path} line 1: the header cannot be read: {error}; mend it") from None
        if twice := next((name for name, count in Counter(header).items() if name and count > 1), None):
            raise CorpusError(f"{self.path} line 1: the header names '{twice}' twice; rename one of the two")
        return header


def _csv_field(delimiter: str) -> re.Pattern[str]:
    return re.compile(rf'(?:"([^"]*(?:""[^"]*)*)"|([^"{delimiter}][^{delimiter}]*|))({delimiter}|\Z)')


def _csv_fields(record: str, field: re.Pattern[str]) -> list[str]:
    # Not the csv module: its limit of 131,072 characters a field can only be changed for the whole process.
    fields: list[str] = []
    place = 0
    while found := field.match(record, place):
        quoted, plain, end = found.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        if not end:
            return fields
        place = found.end()
    raise RowError(f"field {len(fields) + 1} goes on after its closing quote (double the quotes in a quoted field)")


def _attempt(parse: Callable[[bytes], Mapping[str, Any] | str], record: bytes) -> Mapping[str, Any] | str | RowError:
    try:
        return parse(record)
    except RowError as error:
        return error


@dataclass(frozen=True)
class TextFiles:
    """Text files below ``root``, each one document whose id is its path there (after ``prefix``)."""

    root: Place
    names: Sequence[str]
    limit: int
    prefix: str = ""
    label = ""
    replayable = True

    @property
    def files(self) -> Iterator[Place]:
        """Return the files that are read."""
        return (self.root / name for name in self.names)

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return which columns hold text and id."""
        for role, named in (("text", settings.text_column), ("id", settings.id_column)):
            if named:
                raise CorpusError(
                    f"{self.root / self.names[0]} is plain text, without columns; leave --{role}-column out"
                )
        return ColumnLayout("text", "id")

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        for number, name in enumerate(self.names):
            yield Row(number, number, {"id": self.prefix + name, "text": self._text(self.root / name)})

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return self.prefix + self.names[at]

    def _text(self, path: Place) -> bytes | RowError:
        with reading(path), _open(path) as stream:
            data = stream.read(self.limit + len(codecs.BOM_UTF8) + 1).removeprefix(codecs.BOM_UTF8)
        return data if len(data) <= self.limit else too_long(self.limit)


class _Arrow(_File):
    """A table that pyarrow reads, in batches of the wanted columns."""

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} row {at}"

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return which columns hold text and id."""
        return find_layout(str(self.path), self._columns(), settings)

    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order."""
        wanted = layout.wanted(self._columns())
        number = 0
        with self._sound():
            for batch in self._batches(wanted):
                columns = [_cells(batch.column(name)) for name in wanted]
                for cells in zip(*columns, strict=True):
                    yield Row(number, number, dict(zip(wanted, cells, strict=True)))
                    number += 1

    def _columns(self) -> dict[str, bool]:
        with self._sound():
            return {field.name: _is_string(field.type) for field in self._schema()}

    @contextmanager
    def _sound(self) -> Iterator[None]:
        import pyarrow as pa

        try:
            with reading(self.path):
                yield
        except (pa.ArrowException, UnicodeDecodeError) as error:
            first_line = str(error).partition("\n")[0]
            raise CorpusError(f"{self.path} is not sound {self.format} ({first_line}); write it again") from None

    format = "Arrow"

    def _schema(self) -> Any:
        raise NotImplementedError

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        raise NotImplementedError


class Parquet(_Arrow):
    """A Parquet file; a buffered stream keeps a row group from being held whole."""

    format = "Parquet"

    @contextmanager
    def _open(self) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with ExitStack() as stack:
            source = stack.enter_context(self.path.open("rb")) if isinstance(self.path, Url) else self.path
            yield stack.enter_context(pq.ParquetFile(source, buffer_size=1 << 20))

    def _schema(self) -> Any:
        with self._open() as file:
            return file.schema_arrow

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        with self._open() as file:
            yield from file.iter_batches(_BATCH, columns=columns)


class SavedDataset(_Arrow):
    """A folder that Hugging Face ``Dataset.save_to_disk`` wrote; read with pyarrow alone."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the files that are read."""
        state = self.path / "state.json"
        try:
            with reading(state):
                data = json.loads(state.read_bytes())
            names = [entry["filename"] for entry in data["_data_files"]]
            if not names or any(Path(name).name != name for name in names):
                raise ValueError("no data files in this folder")
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{state} does not say which files hold the data ({error}); save the dataset again"
            ) from None
        if data.get("_indices_data_files"):
            raise CorpusError(f"{self.path} was saved with an index mapping; save dataset.flatten_indices() instead")
        return tuple(self.path / name for name in names)

    def _schema(self) -> Any:
        import pyarrow as pa

        with pa.OSFile(str(self.files[0])) as file, pa.ipc.open_stream(file) as stream:
            return stream.schema

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        import pyarrow as pa

        for path in self.files:
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    narrow = batch.select(columns)
                    yield from (narrow.slice(start, _BATCH) for start in range(0, narrow.num_rows, _BATCH))


def _is_string(arrow_type: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(arrow_type):
        return _is_string(arrow_type.value_type)
    return any(test(arrow_type) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _cells(array: Any) -> list[Any]:
    """A column's values; strings come as bytes, so that one broken string does not spoil its whole batch."""
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_string(array.type):
        array = array.cast(pa.large_string()).cast(pa.large_binary())
    return cast(list[Any], array.to_pylist())


_READERS: dict[str, type[JsonLines] | type[Csv] | type[Parquet] | None] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": Csv,
    ".tsv": Csv,
    ".parquet": Parquet,
    ".txt": None,
    ".md": None,
}
_KINDS = {JsonLines: "JSON Lines", Csv: "CSV", Parquet: "Parquet", None: "plain text"}


def _suffix(name: str) -> str | None:
    """The suffix that says the format of a file, or None if we read no such file."""
    plain = name.lower()
    if plain.endswith(".gz") and not plain.endswith(".parquet.gz"):
        plain = plain.removesuffix(".gz")
    suffix = Path(plain).suffix
    return suffix if suffix in _READERS else None


@dataclass(frozen=True)
class _Found:
    """A file, or a folder of text files, and what to call it as long as that is unambiguous."""

    path: Place
    short: str
    names: tuple[str, ...] = ()


def find_parts(paths: Sequence[Place], limit: int) -> list[RowReader]:
    """The readers of the files at ``paths`` and in the folders there, in order.

    Raises:
        CorpusError: A path does not exist or is given twice, a format is unknown, or a folder mixes formats.
    """
    found = [each for path in paths for each in _look(path)]
    counts = Counter(each.short for each in found)
    real = Counter(each.path.resolve() for each in found)
    if twice := next((path for path, count in real.items() if count > 1), None):
        raise CorpusError(f"{twice} is given twice; name it once")
    return [_part(each, each.short if counts[each.short] == 1 else each.path.as_posix(), limit) for each in found]


def _part(found: _Found, label: str, limit: int) -> RowReader:
    if found.names:
        return TextFiles(found.path, found.names, limit)
    if isinstance(found.path, Path) and found.path.is_dir():
        return SavedDataset(found.path, label, limit)
    name = found.path.name
    reader = _READERS[cast(str, _suffix(name))]
    if reader is None:
        return TextFiles(found.path.parent, (name,), limit, prefix=label.removesuffix(name))
    return reader(found.path, label, limit)


def _look(given: Place) -> list[_Found]:
    if isinstance(given, Url):
        return _look_at(given)
    path = given.expanduser()
    try:
        if path.is_dir():
            return _look_into(path)
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        shown = str(given) if len(str(given)) <= 120 else f"{str(given)[:120]}…"
        raise CorpusError(
            f"there is no regular file or folder '{shown}'; check the path (texts themselves are passed as texts=[…])"
        )
    return _file_at(path)


def _look_at(url: Url) -> list[_Found]:
    try:
        url.check()
    except FalconerError as error:
        raise CorpusError(str(error)) from None
    with reading(url):
        if url.is_dir():
            return _sorted_out(url, sorted(name for name in url.walk() if _is_data(name)))
        if not url.is_file():
            raise CorpusError(f"there is no file or folder {url}; check the address and what you may read")
    return _file_at(url)


def _file_at(path: Place) -> list[_Found]:
    if _suffix(path.name) is None:
        raise CorpusError(f"{path} is of no format that can be read; give {_formats()}")
    return [_Found(path, path.name)]


def _formats() -> str:
    *most, last = _READERS
    return f"{', '.join(most)} or {last}, gzipped or not (Parquet never)"


def _look_into(folder: Path) -> list[_Found]:
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in folder.iterdir() if (child / "state.json").is_file())
        raise CorpusError(f"{folder} holds a dataset in splits; give one of its folders: {', '.join(splits) or 'none'}")
    if (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file():
        return [_Found(folder, folder.name)]
    return _sorted_out(folder, sorted(_names_below(folder)))


def _sorted_out(folder: Place, names: list[str]) -> list[_Found]:
    """The files of a folder as one corpus, or as one each."""
    if not names:
        raise CorpusError(f"the folder {folder} holds no files to read; give {_formats()}")
    first: dict[str, str] = {}
    for name in names:
        suffix = _suffix(name)
        if suffix is None:
            raise CorpusError(
                f"{folder / name} is of no format that can be read; move it away or give the files to read"
            )
        first.setdefault(_KINDS[_READERS[suffix]], name)
    if len(first) > 1:
        mixed = " and ".join(f"{kind} ({name})" for kind, name in first.items())
        raise CorpusError(f"the folder {folder} mixes {mixed}; give the files of one format")
    if "plain text" in first:
        return [_Found(folder, folder.name, tuple(names))]
    return [_Found(folder / name, name) for name in names]


def _names_below(folder: Path) -> Iterator[str]:
    """Files below a folder; hidden ones, and markers such as Spark's ``_SUCCESS``, are no data."""

    def fail(error: OSError) -> None:
        raise CorpusError(f"{error.filename} cannot be read: {error.strerror}; check the folder and its rights")

    for root, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if _is_data(name):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _is_data(path: str) -> bool:
    """Whether a file below a folder is neither hidden nor a marker."""
    *folders, name = path.split("/")
    marker = name.startswith(".") or (name.startswith("_") and _suffix(name) is None)
    return not marker and not any(folder.startswith(".") for folder in folders)
