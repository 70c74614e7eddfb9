"""Shared parts of the file readers: opening, translation of errors, and the base class of a reader of one file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from langchain_falconer.corpus.columns import RowError
from langchain_falconer.corpus.readers.framing import QuoteTracker, split_records
from langchain_falconer.errors import CorpusError, FalconerError
from langchain_falconer.urls import Place, Url


@contextmanager
def translate_errors(path: Place) -> Iterator[None]:
    """Translate the errors of reading a file into ``CorpusError``."""
    shown = str(path)
    try:
        yield
    except EOFError as error:
        raise CorpusError(
            f"{path} is truncated: its gzip stream has no end; copy or download it again", path=shown
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CorpusError(
            f"{path} is not valid gzip ({error}); compress it again or remove the suffix .gz", path=shown
        ) from error
    except OSError as error:
        # The message of a remote file system may hold the address with its credentials.
        reason = error.strerror or (type(error).__name__ if isinstance(path, Url) else error)
        raise CorpusError(f"{path} cannot be read: {reason}; check the file and its permissions", path=shown) from (
            None if isinstance(path, Url) else error
        )
    except Exception as error:
        if isinstance(path, Url) and not isinstance(error, FalconerError | RowError | ValueError):
            raise CorpusError(
                f"{path} cannot be read: {type(error).__name__}; check it and try again", path=shown
            ) from None
        raise


@contextmanager
def open_file(path: Place) -> Iterator[IO[bytes]]:
    """Open a file for reading; one whose name ends in ``.gz`` is decompressed."""
    with path.open("rb") as stream:
        if path.suffix.lower() == ".gz":
            with gzip.GzipFile(fileobj=stream) as decompressed:
                yield cast(IO[bytes], decompressed)
        else:
            yield stream


def value_or_error(
    parse: Callable[[bytes], Mapping[str, Any] | str], record: bytes | RowError
) -> Mapping[str, Any] | str | RowError:
    """Return the parsed record, or the reason why it cannot be parsed."""
    if isinstance(record, RowError):
        return record
    try:
        return parse(record)
    except RowError as error:
        return error


@dataclass(frozen=True)
class FileReader:
    """The base of readers of one file.

    Attributes:
        path: The file.
        label: Name of the file in ids and messages.
        limit: Maximum size of a row in bytes.
        replayable: Whether the rows can be read more than once: always.
    """

    path: Place
    label: str
    limit: int
    replayable = True

    @property
    def files(self) -> tuple[Place, ...]:
        """The files that are read."""
        return (self.path,)

    def where(self, at: int) -> str:
        """Describe the position of a row, for messages."""
        return f"{self.label} line {at}"

    def _records(self, quotes: QuoteTracker | None = None) -> Iterator[tuple[int, bytes | RowError]]:
        with translate_errors(self.path), open_file(self.path) as stream:
            try:
                yield from split_records(stream, self.limit, quotes)
            except CorpusError as error:
                raise CorpusError(f"{self.path}: {error}", path=str(self.path), row=error.row) from error
