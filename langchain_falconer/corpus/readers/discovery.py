"""Discovery of files: the readers of the files, folders and URLs that a user names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from langchain_falconer.corpus.columns import RowReader
from langchain_falconer.corpus.readers.delimited import Delimited
from langchain_falconer.corpus.readers.json_lines import JsonLines
from langchain_falconer.corpus.readers.parquet import Parquet
from langchain_falconer.corpus.readers.plain_text import TextFiles
from langchain_falconer.corpus.readers.reading import translate_errors
from langchain_falconer.corpus.readers.saved_dataset import SavedDataset
from langchain_falconer.errors import CorpusError, FalconerError
from langchain_falconer.urls import Place, Url

_READERS: dict[str, type[JsonLines] | type[Delimited] | type[Parquet] | None] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": Delimited,
    ".tsv": Delimited,
    ".parquet": Parquet,
    ".txt": None,
    ".md": None,
}
_FORMATS = {JsonLines: "JSON Lines", Delimited: "CSV", Parquet: "Parquet", None: "plain text"}


@dataclass(frozen=True)
class _DataFile:
    """A file, or a folder of text files.

    Attributes:
        path: The file or folder.
        short: Its label as long as no other file has the same.
        names: Paths of the text files, relative to the folder; empty for a file.
    """

    path: Place
    short: str
    names: tuple[str, ...] = ()


def find_readers(paths: Sequence[Place], limit: int) -> list[RowReader]:
    """Return the readers of files and of the files in folders, in order.

    Args:
        paths: Files, folders and URLs.
        limit: Maximum size of a row in bytes.

    Raises:
        CorpusError: A path does not exist or is named twice, a format is unknown, or a folder mixes formats.
    """
    files = [file for path in paths for file in _discover(path)]
    label_counts = Counter(file.short for file in files)
    path_counts = Counter(file.path.resolve() for file in files)
    if duplicate := next((path for path, count in path_counts.items() if count > 1), None):
        raise CorpusError(f"{duplicate} is named twice; name it once", path=str(duplicate))
    return [
        _reader(file, file.short if label_counts[file.short] == 1 else file.path.as_posix(), limit) for file in files
    ]


def _reader(file: _DataFile, label: str, limit: int) -> RowReader:
    if file.names:
        return TextFiles(file.path, file.names, limit)
    if isinstance(file.path, Path) and file.path.is_dir():
        return SavedDataset(file.path, label, limit)
    name = file.path.name
    reader = _READERS[cast(str, _suffix(name))]
    if reader is None:
        return TextFiles(file.path.parent, (name,), limit, prefix=label.removesuffix(name))
    return reader(file.path, label, limit)


def _discover(place: Place) -> list[_DataFile]:
    if isinstance(place, Url):
        return _discover_url(place)
    path = place.expanduser()
    try:
        if path.is_dir():
            return _discover_folder(path)
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        shown = str(place) if len(str(place)) <= 120 else f"{str(place)[:120]}…"
        raise CorpusError(
            f"there is no regular file or folder '{shown}'; check the path (pass texts themselves as texts=[…])",
            path=shown,
        )
    return _single_file(path)


def _discover_url(url: Url) -> list[_DataFile]:
    try:
        url.check()
    except FalconerError as error:
        raise CorpusError(str(error), path=str(url)) from error
    with translate_errors(url):
        if url.is_dir():
            return _folder_files(url, sorted(name for name in url.walk() if _is_data(name)))
        if not url.is_file():
            raise CorpusError(
                f"there is no file or folder {url}; check the address and your permissions", path=str(url)
            )
    return _single_file(url)


def _discover_folder(folder: Path) -> list[_DataFile]:
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(child.name for child in folder.iterdir() if (child / "state.json").is_file())
        raise CorpusError(
            f"{folder} holds a dataset in splits; give one of its folders: {', '.join(splits) or 'none'}", path=folder
        )
    if (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file():
        return [_DataFile(folder, folder.name)]
    return _folder_files(folder, sorted(_names_below(folder)))


def _single_file(path: Place) -> list[_DataFile]:
    if _suffix(path.name) is None:
        raise CorpusError(f"{path} has an unsupported format; give {_supported()}", path=str(path))
    return [_DataFile(path, path.name)]


def _folder_files(folder: Place, names: list[str]) -> list[_DataFile]:
    """Return text files of a folder as one corpus, files of another format one by one."""
    if not names:
        raise CorpusError(f"the folder {folder} holds no files to read; give {_supported()}", path=str(folder))
    first_names: dict[str, str] = {}
    for name in names:
        suffix = _suffix(name)
        if suffix is None:
            raise CorpusError(
                f"{folder / name} has an unsupported format; move it away or name the files to read",
                path=str(folder / name),
            )
        first_names.setdefault(_FORMATS[_READERS[suffix]], name)
    if len(first_names) > 1:
        formats = " and ".join(f"{file_format} ({name})" for file_format, name in first_names.items())
        raise CorpusError(f"the folder {folder} mixes {formats}; name the files of one format", path=str(folder))
    if "plain text" in first_names:
        return [_DataFile(folder, folder.name, tuple(names))]
    return [_DataFile(folder / name, name) for name in names]


def _names_below(folder: Path) -> Iterator[str]:
    """Yield the data files below a folder, as paths relative to it."""

    def fail(error: OSError) -> None:
        raise CorpusError(
            f"{error.filename} cannot be read: {error.strerror}; check the folder and its permissions",
            path=error.filename,
        ) from error

    for root, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if _is_data(name):
                yield (Path(root) / name).relative_to(folder).as_posix()


def _is_data(path: str) -> bool:
    """Return whether a file below a folder is neither hidden nor a marker such as ``_SUCCESS`` of Spark."""
    *folders, name = path.split("/")
    is_marker = name.startswith(".") or (name.startswith("_") and _suffix(name) is None)
    return not is_marker and not any(folder.startswith(".") for folder in folders)


def _suffix(name: str) -> str | None:
    """Return the suffix that tells the format of a file, without ``.gz``; None for an unsupported format."""
    lower = name.lower()
    if lower.endswith(".gz") and not lower.endswith(".parquet.gz"):
        lower = lower.removesuffix(".gz")
    suffix = Path(lower).suffix
    return suffix if suffix in _READERS else None


def _supported() -> str:
    *suffixes, last = _READERS
    return f"{', '.join(suffixes)} or {last}; all but Parquet may be gzipped"
