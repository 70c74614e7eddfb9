"""What the readers of files share: opening, translation of errors, and their base class."""

from __future__ import annotations

import gzip
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, ClassVar, cast

from langchain_falconer.corpus.columns import ColumnLayout, Row, RowError, find_layout
from langchain_falconer.errors import CorpusError, FalconerError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place, Url


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
def open_file(path: Place) -> Iterator[IO[bytes]]:
    """Open a file for reading; one whose name ends in ``.gz`` is decompressed."""
    with path.open("rb") as stream:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=stream) as decompressed:
                yield cast(IO[bytes], decompressed)
        else:
            yield stream


@dataclass(frozen=True)
class FileReader(ABC):
    """A reader of the raw rows of a file, or of a folder that is read as one.

    Attributes:
        path: The file or folder.
        label: Its name in positions, and before the number of a row without an id.
        limit: Maximum size of a row in bytes.
        format: Name of the format, for messages.
        replayable: Whether the rows can be read more than once: always.
    """

    path: Place
    label: str
    limit: int
    format: ClassVar[str]
    replayable: ClassVar[bool] = True

    @property
    def files(self) -> Sequence[Place]:
        """The files that are read."""
        return (self.path,)

    def layout(self, settings: CorpusSettings) -> ColumnLayout:
        """Return the columns of text and id."""
        return find_layout(str(self.path), self._columns(), settings)

    @abstractmethod
    def rows(self, layout: ColumnLayout) -> Iterator[Row]:
        """Yield the raw rows in order, from the first one on."""

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} line {at}"

    @abstractmethod
    def _columns(self) -> Mapping[str, bool]:
        """Return the column names in order, and whether each holds strings."""
