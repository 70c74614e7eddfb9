"""Catalog of the proxies in a folder."""

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
_MAX_NAMES = 12


@dataclass(frozen=True)
class Registry:
    """Proxies by name.

    Attributes:
        folder: The folder that has one subfolder per proxy.
    """

    folder: Path

    def path(self, name: str) -> Path:
        """Return the folder of a proxy, existing or not. Raises ``ProxyError`` for an invalid name."""
        if not _NAME.fullmatch(name):
            raise ProxyError(f"'{name}' is not a proxy name; use letters, digits, '.', '_' and '-'")
        return self.folder / name

    def entries(self) -> list[Entry]:
        """Return all proxies, the newest first, broken ones included."""
        folders = [p for p in self.folder.glob("*") if _NAME.fullmatch(p.name) and p.is_dir()]
        return sorted(map(read_entry, folders), key=lambda e: (-e.created.timestamp(), e.name))

    def entry(self, name: str) -> Entry:
        """Return the entry of a proxy. Raises ``ProxyError`` if it is broken, or (with a list) does not exist."""
        entry = read_entry(self._existing(name))
        if entry.broken:
            raise ProxyError(f"the proxy '{name}' is broken ({entry.broken}); delete it and train or import it again")
        return entry

    def plan_for(self, instruction: str) -> Plan | None:
        """Return the plan of the newest proxy that was trained for an instruction; None if there is none."""
        return next((e.plan for e in self.entries() if e.plan and e.plan.instruction == instruction), None)

    def load(self, name: str) -> Proxy:
        """Load a proxy. Raises ``ProxyError`` as :meth:`entry` does."""
        return Proxy.load(self.entry(name).path)

    def most_similar(
        self, plan: Plan, embed: Callable[[Sequence[str]], np.ndarray], *, min_cosine: float = 0.5
    ) -> list[Entry]:
        """Return the unbroken proxies whose questions are similar to those of a plan, the most similar first.

        Args:
            plan: The plan.
            embed: Turns texts into unit vectors (n, d), float32.
            min_cosine: Minimum cosine similarity of the questions.
        """
        candidates = [(entry, entry.plan) for entry in self.entries() if entry.plan]
        if not candidates:
            return []
        vectors = embed([_questions(plan), *(_questions(other) for _, other in candidates)])
        cosines = vectors[1:] @ vectors[0]
        nearest_first = np.argsort(-cosines, kind="stable")
        return [candidates[i][0] for i in nearest_first if cosines[i] >= min_cosine]

    def check(self, *names: str) -> None:
        """Raise ``ProxyError`` if one of these proxies does not exist; broken ones do."""
        for name in names:
            self._existing(name)

    def delete(self, *names: str) -> None:
        """Delete proxies, broken ones included.

        Raises:
            ProxyError: One of the names is unknown, and none is deleted; or a folder cannot be deleted.
        """
        folders = {self._existing(name) for name in names}
        try:
            for folder in folders:
                shutil.rmtree(folder)
        except OSError as error:
            raise ProxyError(f"{folder} cannot be deleted ({error.strerror}); delete it by hand") from error

    def export_to(self, name: str, path: Path) -> None:
        """Copy a proxy to a folder, or to a zip file if ``path`` ends in ``.zip``.

        Raises:
            ProxyError: There is something at ``path``, it cannot be written, or a zip would exceed 2 GiB.
        """
        entry = self.entry(name)
        if path.exists():
            raise ProxyError(f"{path} is there already; remove it, or choose another path", path=path)
        export_proxy(entry.path, path)

    def import_from(self, path: Path, name: str | None = None) -> Entry:
        """Import a proxy from a folder or zip file, under its own name or ``name``, after a test that it answers.

        Raises:
            ProxyError: It is not a proxy that loads, a zip with other files or more than 2 GiB, or the name is taken.
        """
        name = name or (path.absolute().name if path.is_dir() else path.stem)
        target = self.path(name)
        if target.exists():
            raise ProxyError(f"there is a proxy '{name}' already; import under another --name, or delete that one")
        import_proxy(path, target)
        return self.entry(name)

    def _existing(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_dir():
            raise ProxyError(f"there is no proxy '{name}' in {self.folder}; there is {_listed(self.entries())}")
        return path


def _questions(plan: Plan) -> str:
    return " ".join([plan.instruction, *(step.instruction for step in plan.steps)])


def _listed(entries: list[Entry]) -> str:
    names = [entry.name for entry in entries]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return (", ".join(names[:_MAX_NAMES]) or "none yet") + more
