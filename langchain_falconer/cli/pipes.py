"""Standard input as a corpus, and standard output for the rows: both are ``-``."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from langchain_falconer.errors import RunError, SettingsError
from langchain_falconer.settings import FormatName, RowUnit
from langchain_falconer.urls import Place, as_place

PIPE = "-"
_SUFFIXES: dict[FormatName, str] = {
    "json": ".jsonl",
    "csv": ".csv",
    "parquet": ".parquet",
    "excel": ".xlsx",
    "text": ".txt",
    "lines": ".txt",
}
_CHUNK_BYTES = 1 << 20


def check_rows_output(output: str, unit: RowUnit, *, as_json: bool) -> None:
    """Check, before anything is loaded or paid, that the rows can be written.

    Raises:
        RunError: The format of the output is not known, or it cannot be written.
        SettingsError: The rows and the JSON object would both go to stdout.
    """
    from langchain_falconer.execute import check_output

    if output != PIPE:
        check_output(as_place(output), unit)
    elif as_json:
        raise SettingsError("the rows (-o -) and --json would both go to stdout; name a file with -o")
    elif unit != "text":
        raise SettingsError("rows on stdout are JSON Lines, one a text; name a file in .csv with -o for one row a span")


def stored_corpus(corpus: Sequence[str], home: Path, file_format: FormatName) -> list[str]:
    """Return the files of a corpus; stdin is stored in the home, by its content, so that the command can resume.

    Raises:
        RunError: Nothing is piped into the command, or it cannot be stored.
        SettingsError: The format of stdin is not known, or it is named twice.
    """
    if PIPE not in corpus:
        return list(corpus)
    if corpus.count(PIPE) > 1:
        raise SettingsError("stdin (-) is named twice; name it once")
    if sys.stdin.isatty():
        raise RunError("the corpus is stdin (-) and nothing is piped into it; write cat reviews.jsonl | falconer …")
    try:
        home.mkdir(parents=True, exist_ok=True)
        stored = _store(home, file_format)
    except OSError as error:
        raise RunError(f"stdin cannot be stored in {home} ({error.strerror}); name another --home") from error
    return [str(stored) if name == PIPE else name for name in corpus]


def _store(folder: Path, file_format: FormatName) -> Path:
    digest = hashlib.blake2b(digest_size=16)
    beginning = b""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as file:
        part = Path(file.name)
        try:
            while chunk := sys.stdin.buffer.read(_CHUNK_BYTES):
                beginning = beginning or chunk.lstrip()[:1]
                digest.update(chunk)
                file.write(chunk)
            suffix = _SUFFIXES.get(file_format) or (".jsonl" if beginning in (b"", b"{", b"[", b'"') else None)
            if suffix is None:
                raise SettingsError("stdin is not JSON; name its format with --format: csv, or lines (one text a line)")
            file.close()
            target = folder / f"stdin-{digest.hexdigest()}{suffix}"
            if not target.exists():  # so that its time never changes
                part.replace(target)
            return target
        finally:
            part.unlink(missing_ok=True)


def print_rows(rows: Place) -> None:
    """Copy a file of rows (JSON Lines) to stdout."""
    sys.stdout.flush()
    with rows.open("rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.flush()
