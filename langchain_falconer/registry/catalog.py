"""The proxies that a home holds."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from langchain_falconer.errors import ProxyError
from langchain_falconer.model.proxy import Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.registry.archive import export_proxy, import_proxy
from langchain_falconer.registry.entry import Entry, read_entry

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
_MOST_NAMES = 12


@dataclass(frozen=True)
class Registry:
    """Proxies by name, each in its own folder under ``folder``."""

    folder: Path

    def path(self, name: str) -> Path:
        """Where the proxy of this name lies, or would. Raises ``ProxyError`` for what is no plain name."""
        if not _NAME.fullmatch(name):
            raise ProxyError(f"'{name}' is no proxy name; use letters, digits, '.', '_' and '-'")
        return self.folder / name

    def entries(self) -> list[Entry]:
        """All proxies, the newest first, broken ones too."""
        found = [p for p in self.folder.glob("*") if _NAME.fullmatch(p.name) and p.is_dir()]
        return sorted(map(read_entry, found), key=lambda e: (-e.created.timestamp(), e.name))

    def entry(self, name: str) -> Entry:
        """The proxy of this name. Raises ``ProxyError`` if there is none (naming those there are) or it is broken."""
        entry = read_entry(self._there(name))
        if entry.broken:
            raise ProxyError(f"the proxy '{name}' is broken ({entry.broken}); delete it and train or import it again")
        return entry

    def load(self, name: str) -> Proxy:
        """The proxy of this name, to be asked. Raises ``ProxyError`` as :meth:`entry` does."""
        return Proxy.load(self.entry(name).path)

    def most_similar(
        self, plan: Plan, embed: Callable[[Sequence[str]], np.ndarray], *, least_cosine: float = 0.5
    ) -> list[Entry]:
        """The proxies whose questions are near a plan's in meaning, the nearest first; broken ones are left out.

        ``embed`` turns texts into unit vectors (n, d), float32.
        """
        import faiss

        there = [(entry, entry.plan) for entry in self.entries() if entry.plan]
        if not there:
            return []
        vectors = embed([_asked(plan), *(_asked(other) for _, other in there)])
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors[1:])
        cosines, found = index.search(vectors[:1], len(there))
        return [there[i][0] for i, cosine in zip(found[0], cosines[0], strict=True) if cosine >= least_cosine]

    def check(self, *names: str) -> None:
        """Raises ``ProxyError`` unless there is a proxy, broken or not, of each of these names."""
        for name in names:
            self._there(name)

    def delete(self, *names: str) -> None:
        """Remove proxies for good, broken ones too; none of them if one of the names is unknown (``ProxyError``)."""
        folders = {self._there(name) for name in names}
        try:
            for folder in folders:
                shutil.rmtree(folder)
        except OSError as error:
            raise ProxyError(f"{folder} cannot be deleted ({error.strerror}); delete it by hand") from None

    def export_to(self, name: str, path: Path) -> None:
        """Copy a proxy to a folder, or to a zip file if ``path`` ends in ``.zip``, to be imported elsewhere.

        A proxy that is there already is replaced. Raises ``ProxyError`` if it is something else, or cannot be written.
        """
        export_proxy(self.entry(name).path, path)

    def import_from(self, path: Path, name: str | None = None) -> Entry:
        """Take in a proxy from a folder or zip file, under its own name or ``name``, once it is seen to answer.

        Raises:
            ProxyError: it is no proxy that loads, a zip that holds anything else or more than 2 GiB, or the name is
                taken.
        """
        name = name or (path.absolute().name if path.is_dir() else path.stem)
        target = self.path(name)
        if target.exists():
            raise ProxyError(f"there is a proxy '{name}' already; import under another --name, or delete that one")
        import_proxy(path, target)
        return self.entry(name)

    def _there(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_dir():
            raise ProxyError(f"there is no proxy '{name}' in {self.folder}; there is {_listed(self.entries())}")
        return path


def _asked(plan: Plan) -> str:
    return " ".join([plan.instruction, *(step.instruction for step in plan.steps)])


def _listed(entries: list[Entry]) -> str:
    names = [entry.name for entry in entries]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return (", ".join(names[:_MOST_NAMES]) or "none yet") + more
