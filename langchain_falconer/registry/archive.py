"""Export and import of proxies, as a folder or a zip file."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path

from langchain_falconer.errors import ProxyError
from langchain_falconer.files import replacing
from langchain_falconer.model.artifact import PARTS, is_proxy, replacing_folder
from langchain_falconer.model.proxy import Proxy

MAX_ZIP_BYTES = 2 << 30
"""Maximum size of the content of a zip file, unpacked."""


def export_proxy(folder: Path, target: Path) -> None:
    """Copy the proxy in ``folder`` to ``target``: a folder, or a zip file if the name ends in ``.zip``."""
    parts = [part for part in sorted(folder.iterdir()) if part.name in PARTS]
    if target.suffix.lower() == ".zip":
        _zip(parts, target)
    else:
        with replacing_folder(target) as copy:
            for part in parts:
                shutil.copyfile(part, copy / part.name)


def import_proxy(source: Path, target: Path) -> None:
    """Copy the proxy in a folder or zip file to ``target``, which appears only after the copy has answered a test."""
    if not source.exists():
        raise ProxyError(f"there is no {source}; name a folder or zip that 'falconer proxies export' wrote")
    with replacing_folder(target) as copy:
        if source.is_dir():
            _copy(source, copy)
        else:
            _unzip(source, copy)
        try:
            proxy = Proxy.load(copy)
            proxy.run(["one text"])
            proxy.set_session(proxy.torch_session())
            proxy.run(["one text"])
        except ProxyError as error:
            raise ProxyError(str(error).replace(str(copy), str(source))) from error


def _zip(parts: list[Path], target: Path) -> None:
    if target.exists() and not _is_zipped_proxy(target):
        raise ProxyError(f"{target} exists and is not a proxy; choose another path")
    if sum(part.stat().st_size for part in parts) > MAX_ZIP_BYTES:
        raise ProxyError("the proxy is larger than the 2 GiB that are imported from a zip; export it to a folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial, zipfile.ZipFile(partial, "w") as packed:
            for part in parts:
                packed.write(part, part.name)
    except OSError as error:
        raise ProxyError(f"{target} cannot be written ({error.strerror or error}); choose another path") from error


def _is_zipped_proxy(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as packed:
            return is_proxy(packed.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _copy(source: Path, folder: Path) -> None:
    for part in sorted(source.iterdir()):
        if part.name not in PARTS or not part.is_file() or part.is_symlink():
            raise _foreign(part.name, source)
        shutil.copyfile(part, folder / part.name)


def _unzip(source: Path, folder: Path) -> None:
    """Unpack file by file under known names: no path in a zip is followed."""
    try:
        with zipfile.ZipFile(source) as packed:
            _check(packed.infolist(), source)
            for info in packed.infolist():
                with packed.open(info) as part, (folder / info.filename).open("xb") as out:
                    shutil.copyfileobj(part, out)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ProxyError(f"{source} is not a readable zip file ({error}); export the proxy again") from error


def _check(infos: list[zipfile.ZipInfo], source: Path) -> None:
    for info in infos:
        if info.filename not in PARTS or stat.S_ISLNK(info.external_attr >> 16):
            raise _foreign(info.filename, source)
    if len({info.filename for info in infos}) < len(infos):
        raise ProxyError(f"{source} holds a file twice; export the proxy again")
    if sum(info.file_size for info in infos) > MAX_ZIP_BYTES:
        raise ProxyError(f"{source} unpacks to more than 2 GiB; import a proxy of this size from a folder")


def _foreign(name: str, source: Path) -> ProxyError:
    return ProxyError(
        f"{name!r} in {source} is not a file of a proxy; import a folder or zip that 'falconer proxies export' wrote"
    )
