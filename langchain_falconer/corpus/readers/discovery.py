"""Discovery of files: the readers of the files, folders and URLs that a user names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from langchain_falconer.corpus.readers.arrow_tables import Parquet, SavedDataset
from langchain_falconer.corpus.readers.delimited import Delimited
from langchain_falconer.corpus.readers.excel import Excel
from langchain_falconer.corpus.readers.json_lines import JsonLines
from langchain_falconer.corpus.readers.plain_text import TextFiles, TextLines
from langchain_falconer.corpus.readers.reading import FileReader, translate_errors
from langchain_falconer.errors import CorpusError, FalconerError
from langchain_falconer.settings import CorpusSettings
from langchain_falconer.urls import Place, Url

_DEFAULTS = CorpusSettings()
_READERS: dict[str, type[FileReader]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".json": JsonLines,
    ".csv": Delimited,
    ".tsv": Delimited,
    ".parquet": Parquet,
    ".xlsx": Excel,
    ".txt": TextFiles,
    ".md": TextFiles,
}
_FORMATS: dict[str, type[FileReader]] = {
    "json": JsonLines,
    "csv": Delimited,
    "parquet": Parquet,
    "excel": Excel,
    "text": TextFiles,
    "lines": TextLines,
}
_SUPPORTED = ", ".join(_READERS).replace(", .md", " or .md (or name it with --format); text and tables may be gzipped")
_FIXES = {
    ".zip": "unzip it, and give the files in it",
    ".xls": "save it as .xlsx or .csv",
    ".ods": "save it as .xlsx or .csv",
    ".gz": "name what is in it, such as reviews.csv.gz, or with --format",
}


def find_readers(paths: Sequence[Place], settings: CorpusSettings) -> list[FileReader]:
    """Return the readers of files and of the files in folders, in order.

    Raises:
        CorpusError: A path does not exist or is named twice, a format is unknown, or a folder mixes formats.
    """
    readers = [reader for path in paths for reader in _discover(path, settings)]
    path_counts = Counter(reader.path.resolve() for reader in readers)
    if duplicate := next((path for path, count in path_counts.items() if count > 1), None):
        raise CorpusError(f"{duplicate} is named twice; name it once", path=str(duplicate))
    label_counts = Counter(reader.label for reader in readers)
    return [r if label_counts[r.label] == 1 else replace(r, label=r.path.as_posix()) for r in readers]


def _discover(place: Place, settings: CorpusSettings) -> list[FileReader]:
    path = place if isinstance(place, Url) else place.expanduser()
    if _is_dir(path):
        return _folder_readers(path, settings)
    reader = _reader_class(path.name, settings)
    if reader is None:
        fix = _FIXES.get(path.suffix.lower(), f"give {_SUPPORTED}")
        raise CorpusError(f"{path} has an unsupported format; {fix}", path=str(path))
    return [reader(path, path.name, settings)]


def _is_dir(path: Place) -> bool:
    """Return whether a path is a folder. Raises ``CorpusError`` if it is neither a folder nor a file."""
    if isinstance(path, Url):
        return _is_remote_dir(path)
    try:
        if path.is_dir():
            return True
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        shown = str(path) if len(str(path)) <= 120 else f"{str(path)[:120]}…"
        hint = "check the path (pass texts themselves as texts=[…])"
        raise CorpusError(f"there is no regular file or folder '{shown}'; {hint}", path=shown)
    return False


def _is_remote_dir(url: Url) -> bool:
    try:
        url.check()
    except FalconerError as error:
        raise CorpusError(str(error), path=str(url)) from error
    with translate_errors(url):
        is_dir = url.is_dir()
        if not is_dir and not url.is_file():
            message = f"there is no file or folder {url}; check the address and your permissions"
            raise CorpusError(message, path=str(url))
    return is_dir


def _folder_readers(folder: Place, settings: CorpusSettings) -> list[FileReader]:
    """Return one reader of a saved dataset or of text files, else one per file."""
    if isinstance(folder, Path):
        if (folder / "dataset_dict.json").is_file():
            splits = sorted(child.name for child in folder.iterdir() if (child / "state.json").is_file())
            message = f"{folder} holds a dataset in splits; give one of its folders: {', '.join(splits) or 'none'}"
            raise CorpusError(message, path=folder)
        if (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file():
            return [SavedDataset(folder, folder.name, settings)]
    names = sorted(name for name in _files_below(folder) if _is_data(name))
    if not names:
        raise CorpusError(f"the folder {folder} holds no files to read; give {_SUPPORTED}", path=str(folder))
    readers: list[FileReader] = []
    first_names: dict[str, str] = {}
    for name in names:
        reader = _reader_class(name, settings)
        if reader is None:
            path = str(folder / name)
            message = f"{path} has an unsupported format; move it away or name the files to read"
            raise CorpusError(message, path=path)
        readers.append(reader(folder / name, name, settings))
        first_names.setdefault(reader.format, name)
    if len(first_names) > 1:
        formats = " and ".join(f"{file_format} ({name})" for file_format, name in first_names.items())
        raise CorpusError(f"the folder {folder} mixes {formats}; name the files of one format", path=str(folder))
    return [TextFiles(folder, folder.name, settings, names)] if TextFiles.format in first_names else readers


def _files_below(folder: Place) -> Iterator[str]:
    """Yield the files below a folder, as paths relative to it."""
    if isinstance(folder, Url):
        with translate_errors(folder):
            yield from folder.walk()
        return

    def fail(error: OSError) -> None:
        message = f"{error.filename} cannot be read: {error.strerror}; check the folder and its permissions"
        raise CorpusError(message, path=error.filename) from error

    for root, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from ((Path(root) / name).relative_to(folder).as_posix() for name in files)


def _is_data(path: str) -> bool:
    """Return whether a file below a folder is neither hidden nor a marker such as ``_SUCCESS`` of Spark."""
    *folders, name = path.split("/")
    is_marker = name.startswith(".") or (name.startswith("_") and _reader_class(name) is None)
    return not is_marker and not any(folder.startswith(".") for folder in folders)


def _reader_class(name: str, settings: CorpusSettings = _DEFAULTS) -> type[FileReader] | None:
    """Return the reader of a file by the named format, else by its suffix, ``.gz`` aside; None if unsupported."""
    if settings.format != "auto":
        return _FORMATS[settings.format]
    lower = name.lower()
    suffix = Path(lower.removesuffix(".gz")).suffix
    return None if lower.endswith((".parquet.gz", ".xlsx.gz")) else _READERS.get(suffix)
