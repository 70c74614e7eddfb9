"""URLs of files and folders that fsspec can open, displayed and stored without credentials."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from langchain_falconer.errors import FalconerError

_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)(::[\w+.-]+)*://")
_LOCAL = re.compile("(file|local)://")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that this machine alone can reach."""


@dataclass(frozen=True)
class Url:
    """A file or folder at a URL, with those methods of :class:`pathlib.Path` that readers use.

    ``str`` and ``repr`` give the address without user name, password and query.

    Attributes:
        shown: The address without credentials, for messages, states and files.
        address: The complete address.
    """

    shown: str
    address: str = field(repr=False)

    @classmethod
    def of(cls, address: str) -> Url:
        """Create a URL from a complete address."""
        return cls(_without_credentials(address), address)

    def __str__(self) -> str:
        return self.shown

    def __truediv__(self, name: str) -> Url:
        return self._moved(lambda address: f"{address.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self._path.name

    @property
    def suffix(self) -> str:
        """The suffix of the name, as ``Path.suffix``."""
        return self._path.suffix

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of the name, as ``Path.suffixes``."""
        return self._path.suffixes

    @property
    def parent(self) -> Url:
        """The parent folder, with the same query."""
        return self._moved(_parent)

    def as_posix(self) -> str:
        """Return the address without credentials."""
        return self.shown

    def resolve(self) -> Url:
        """Return this URL."""
        return self

    def absolute(self) -> Url:
        """Return this URL."""
        return self

    def check(self) -> None:
        """Raise ``FalconerError`` if the scheme is unknown to fsspec or its package is not installed."""
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations

        scheme = self.shown.partition(":")[0]
        try:
            url_to_fs(self.address)
        except ImportError as error:
            package = known_implementations.get(scheme, {}).get("class", "").partition(".")[0]
            fix = f"run: pip install {package}" if package not in ("", "fsspec") else str(error).partition("\n")[0]
            raise FalconerError(f"{self} needs a package that is not installed; {fix}") from None
        except Exception as error:
            if scheme not in known_implementations:
                raise FalconerError(
                    f"{self}: there is no file system '{scheme}'; use one that fsspec supports, such as s3, gs, abfs, "
                    "hdfs, https or file"
                ) from None
            raise FalconerError(
                f"{self} is not a valid address of its file system ({_reason(error)}); check it"
            ) from None

    def is_dir(self) -> bool:
        """Return whether there is a folder. Raises ``OSError``."""
        with self._file_system() as (files, path):
            return bool(files.isdir(path))

    def is_file(self) -> bool:
        """Return whether there is a file. Raises ``OSError``."""
        with self._file_system() as (files, path):
            return bool(files.isfile(path))

    def walk(self) -> list[str]:
        """Return the paths of all files below this folder, relative to it. Raises ``OSError``."""
        with self._file_system() as (files, path):
            return [os.path.relpath(file, path) for file in files.find(path)]

    def etag(self) -> list[str]:
        """Return address, size and time or digest of a file, where its file system has them. Raises ``OSError``."""
        with self._file_system() as (files, path):
            info = files.info(path)
        marks = (info.get(name) for name in ("ETag", "mtime", "LastModified", "last_modified", "created"))
        return [self.shown, str(info.get("size")), str(next((mark for mark in marks if mark is not None), None))]

    def open(self, mode: str = "rb", encoding: str | None = None) -> IO[Any]:
        """Open the file for reading. Raises ``OSError``."""
        with self._file_system() as (files, path):
            opened: IO[Any] = files.open(path, mode, **({"encoding": encoding} if encoding else {}))
            return opened

    def upload(self, file: Path) -> None:
        """Write a copy of a local file to this URL, atomically where the file system can. Raises ``OSError``."""
        with (
            self._file_system() as (files, path),
            files.transaction,
            files.open(path, "wb") as out,
            file.open("rb") as content,
        ):
            shutil.copyfileobj(content, out, 1 << 20)

    @contextmanager
    def _file_system(self) -> Iterator[tuple[Any, str]]:
        """Yield the file system and the path in it; its errors name no address."""
        from fsspec.core import url_to_fs

        with redacted_errors():
            yield url_to_fs(self.address)

    def _moved(self, move: Callable[[str], str]) -> Url:
        address, mark, query = self.address.partition("?")
        return Url(move(self.shown), f"{move(address)}{mark}{query}")

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.shown.partition("://")[2])


Place = Path | Url
"""The location of a file or folder."""


def as_place(value: str | Place, addresses: Mapping[str, str] | None = None) -> Place:
    """Convert a string to a path, or to a URL if it has a scheme other than ``file://``.

    Args:
        value: Path or address.
        addresses: Complete addresses by their form without credentials.
    """
    if not isinstance(value, str) or not _SCHEME.match(value):
        return value if isinstance(value, Url) else Path(value)
    if _LOCAL.match(value):
        return Path(_LOCAL.sub("", value, count=1))
    return Url.of((addresses or {}).get(value, value))


@contextmanager
def redacted_errors() -> Iterator[None]:
    """Convert every error of a file system to an ``OSError`` without the address, which may hold credentials."""
    try:
        yield
    except Exception as error:
        raise OSError(getattr(error, "errno", None) or errno.EIO, _reason(error)) from None


def _reason(error: Exception) -> str:
    missing = "there is no such file" if isinstance(error, FileNotFoundError) else type(error).__name__
    return getattr(error, "strerror", None) or missing


def _parent(address: str) -> str:
    """Return the parent folder of an address; the root is its own parent."""
    scheme, mark, path = address.rpartition("://")
    return f"{scheme}{mark}{path.rpartition('/')[0]}"


def _without_credentials(address: str) -> str:
    """Return an address without user name, password and query."""
    scheme, mark, rest = address.partition("?")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    if "@" in host:
        host = host.rpartition("@")[2]
    elif ":" in host and not host.rpartition(":")[2].isdigit() and "@" in path:  # a password with a slash
        host, slash, path = path.rpartition("@")[2].partition("/")
    return f"{scheme}{mark}{host}{slash}{path}"
