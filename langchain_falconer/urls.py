"""Files and folders that lie elsewhere: URLs that fsspec knows, shown and kept without credentials."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from langchain_falconer.errors import FalconerError

_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)(::[\w+.-]+)*://")
_LOCAL = re.compile("(file|local)://")


@dataclass(frozen=True)
class Url:
    """A file or folder at a URL, with the few methods of :class:`pathlib.Path` that readers use.

    As text it is the address without user name, password and query; nothing finds these again from it.

    Attributes:
        shown: The address without credentials, for messages, states and files.
        address: The whole address.
    """

    shown: str
    address: str = field(repr=False)

    @classmethod
    def of(cls, address: str) -> Url:
        """Make the URL of a whole address."""
        return cls(_bare(address), address)

    def __str__(self) -> str:
        return self.shown

    def __truediv__(self, name: str) -> Url:
        address, mark, query = self.address.partition("?")
        return Url(f"{self.shown.rstrip('/')}/{name}", f"{address.rstrip('/')}/{name}{mark}{query}")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._path.name

    @property
    def suffix(self) -> str:
        """As ``Path.suffix``."""
        return self._path.suffix

    @property
    def suffixes(self) -> list[str]:
        """As ``Path.suffixes``."""
        return self._path.suffixes

    @property
    def parent(self) -> Url:
        """The folder that it lies in, with the same query."""
        address, mark, query = self.address.partition("?")
        return Url(_parent(self.shown), f"{_parent(address)}{mark}{query}")

    def as_posix(self) -> str:
        """What is shown."""
        return self.shown

    def resolve(self) -> Url:
        """Itself."""
        return self

    def absolute(self) -> Url:
        """Itself."""
        return self

    def check(self) -> None:
        """Raises ``FalconerError`` where no file system is known by its scheme, or a package for it is missing."""
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
                    f"{self}: no file system is called '{scheme}'; write one that fsspec knows, such as s3, gs, abfs, "
                    "hdfs, https or file"
                ) from None
            raise FalconerError(f"{self} is no address of its file system ({_reason(error)}); check it") from None

    def is_dir(self) -> bool:
        """Whether there is a folder. Raises ``OSError``."""
        with redacted_errors():
            files, path = self._at()
            return bool(files.isdir(path))

    def is_file(self) -> bool:
        """Whether there is a file. Raises ``OSError``."""
        with redacted_errors():
            files, path = self._at()
            return bool(files.isfile(path))

    def walk(self) -> list[str]:
        """The paths of all files below this folder, relative to it. Raises ``OSError``."""
        with redacted_errors():
            files, path = self._at()
            return [os.path.relpath(found, path) for found in files.find(path)]

    def etag(self) -> list[str]:
        """Address, size and time or digest of a file, as far as its file system tells. Raises ``OSError``."""
        with redacted_errors():
            files, path = self._at()
            told = files.info(path)
        marks = (told.get(name) for name in ("ETag", "mtime", "LastModified", "last_modified", "created"))
        return [self.shown, str(told.get("size")), str(next((mark for mark in marks if mark is not None), None))]

    def open(self, mode: str = "rb", encoding: str | None = None) -> IO[Any]:
        """The file, to be read. Raises ``OSError``."""
        with redacted_errors():
            files, path = self._at()
            opened: IO[Any] = files.open(path, mode, **({"encoding": encoding} if encoding else {}))
            return opened

    def upload(self, file: Path) -> None:
        """Become a copy of a file; where its file system can, whole or not at all. Raises ``OSError``."""
        with redacted_errors():
            files, path = self._at()
            with files.transaction, files.open(path, "wb") as out, file.open("rb") as content:
                shutil.copyfileobj(content, out, 1 << 20)

    def _at(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        files, path = url_to_fs(self.address)
        return files, str(path)

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.shown.partition("://")[2])


Place = Path | Url
"""Where a file or folder lies."""


def as_place(value: str | Place, addresses: Mapping[str, str] | None = None) -> Place:
    """Return a path, or the URL of another file system; ``file://`` is a path.

    Args:
        value: Path or address.
        addresses: Whole addresses by what is shown of them.
    """
    if not isinstance(value, str) or not _SCHEME.match(value):
        return value if isinstance(value, Url) else Path(value)
    if _LOCAL.match(value):
        return Path(_LOCAL.sub("", value, count=1))
    return Url.of((addresses or {}).get(value, value))


@contextmanager
def redacted_errors() -> Iterator[None]:
    """Whatever a file system raises becomes an ``OSError`` that tells no address, for addresses hold credentials."""
    try:
        yield
    except Exception as error:
        raise OSError(getattr(error, "errno", None) or errno.EIO, _reason(error)) from None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or {"FileNotFoundError": "there is no such file"}.get(
        type(error).__name__, type(error).__name__
    )


def _parent(address: str) -> str:
    """The folder of an address; the root is its own."""
    scheme, mark, path = address.rpartition("://")
    return f"{scheme}{mark}{path.rpartition('/')[0]}"


def _bare(address: str) -> str:
    """An address without user name, password and query."""
    scheme, mark, rest = address.partition("?")[0].rpartition("://")
    host, slash, path = rest.partition("/")
    if "@" in host:
        host = host.rpartition("@")[2]
    elif ":" in host and not host.rpartition(":")[2].isdigit() and "@" in path:  # a password with a slash
        host, slash, path = path.rpartition("@")[2].partition("/")
    return f"{scheme}{mark}{host}{slash}{path}"
