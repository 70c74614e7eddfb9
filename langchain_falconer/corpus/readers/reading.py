"""What the readers of files share: opening, translation of errors, and their base class."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, ClassVar, cast

from langchain_falconer.corpus.columns import ColumnLayout, Row, RowError, find_layout, with_entries
from langchain_falconer.errors import CorpusError, FalconerError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place, Url

_CHUNK_BYTES = 1 << 16


@contextmanager
def translate_errors(path: Place) -> Iterator[None]:
    """Translate the errors of reading a file into ``CorpusError``."""
    cause: Exception | None
    try:
        yield
        return
    except EOFError as error:
        reason, fix, cause = "is truncated: its gzip stream has no end", "copy or download it again", error
    except (gzip.BadGzipFile, zlib.error) as error:
        reason, fix, cause = f"is not valid gzip ({error})", "compress it again or remove the suffix .gz", error
    except (FalconerError, RowError, ValueError):
        raise
    except Exception as error:
        is_remote = isinstance(path, Url)
        if not (is_remote or isinstance(error, OSError)):
            raise
        # The message of a remote file system, and its cause, may hold the address with its credentials.
        text = getattr(error, "strerror", None) or (type(error).__name__ if is_remote else error)
        reason, fix = f"cannot be read: {text}", "check the file and its permissions"
        cause = None if is_remote else error
    raise CorpusError(f"{path} {reason}; {fix}", path=str(path)) from cause


@contextmanager
def open_file(path: Place, encoding: str | None = None) -> Iterator[IO[bytes]]:
    """Open a file for reading as UTF-8; one whose name ends in ``.gz`` is decompressed.

    Raises:
        CorpusError: It is not in the encoding that was named; or while it is read.
    """
    with ExitStack() as stack:
        stream: IO[bytes] = stack.enter_context(path.open("rb"))
        if path.suffix.lower() == ".gz":
            stream = cast(IO[bytes], stack.enter_context(gzip.GzipFile(fileobj=stream)))
        yield stream if encoding is None else io.BufferedReader(_Utf8Stream(stream, encoding, path))


class _Utf8Stream(io.RawIOBase):
    """A stream of text in another encoding, as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str, path: Place) -> None:
        self._stream, self._encoding, self._path = stream, encoding, path
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            data = self._stream.read(_CHUNK_BYTES)
            try:
                text = self._decoder.decode(data, not data)
            except UnicodeDecodeError as error:
                message = f"{self._path} is not in the encoding {self._encoding} ({error.reason}); name its own"
                raise CorpusError(f"{message} with --encoding (encoding=)", path=str(self._path)) from error
            self._rest = text.encode("utf-8", "surrogatepass")
            if not data:
                break
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


@dataclass(frozen=True)
class FileReader(ABC):
    """A reader of the raw rows of a file, or of a folder that is read as one.

    Attributes:
        path: The file or folder.
        label: Its name in positions, and before the number of a row without an id.
        settings: How to read it.
        format: Name of the format, for messages.
        replayable: Whether the rows can be read more than once: always.
    """

    path: Place
    label: str
    settings: CorpusSettings
    format: ClassVar[str]
    replayable: ClassVar[bool] = True

    @property
    def limit(self) -> int:
        """Maximum size of a row in bytes."""
        return self.settings.max_row_bytes

    @property
    def files(self) -> Sequence[Place]:
        """The files that are read."""
        return (self.path,)

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id. Raises ``CorpusError`` if they cannot be determined."""
        columns = self._columns()
        return with_entries(find_layout(str(self.path), columns, settings), columns, self.rows)

    @abstractmethod
    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order, from the first one on."""

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} line {at}"

    @abstractmethod
    def _columns(self) -> Mapping[str, bool]:
        """Return the column names in order, and whether each holds strings."""


class SheetReader(FileReader):
    """A reader of a table under a header: of columns with the same name the second is ``NAME.2``, and so on."""

    @abstractmethod
    def _names(self) -> list[str]:
        """Return the header as it is; the name of a column without one is empty."""

    def _header(self) -> list[str]:
        seen: Counter[str] = Counter()
        header = []
        for name in self._names():
            seen[name] += 1
            header.append(f"{name}.{seen[name]}" if name and seen[name] > 1 else name)
        return header

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id. Raises ``CorpusError`` if the name of one of them stands twice."""
        layout, names = super().layout(settings), self._names()
        if twice := next((name for name in (layout.text, layout.id) if name and names.count(name) > 1), None):
            path = str(self.path)
            message = f"{path}: the header names '{twice}' twice; rename one of the two, or name another column"
            raise CorpusError(f"{message} with --text-column or --id-column", path=path, row=1, column=twice)
        return layout
