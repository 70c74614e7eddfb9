"""The proxies that a home holds."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_falconer.errors import ProxyError
from langchain_falconer.proxy._proxy import Proxy

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True)
class Registry:
    """Proxies by name, each in its own folder under ``folder``."""

    folder: Path

    def path(self, name: str) -> Path:
        """Where the proxy of this name lies, or would. Raises ``ProxyError`` for what is no plain name."""
        if not _NAME.fullmatch(name):
            raise ProxyError(f"'{name}' is no proxy name; use letters, digits, '.', '_' and '-'")
        return self.folder / name

    def __iter__(self) -> Any:
        """The names, newest first."""
        found = [p.parent for p in self.folder.glob("*/manifest.json") if _NAME.fullmatch(p.parent.name)]
        return iter([p.name for p in sorted(found, key=lambda p: (-p.stat().st_mtime, p.name))])

    def load(self, name: str) -> Proxy:
        """The proxy of this name. Raises ``ProxyError`` naming those there are."""
        if not (self.path(name) / "manifest.json").is_file():
            raise ProxyError(f"there is no proxy '{name}' in {self.folder}; there is {', '.join(self) or 'none yet'}")
        return Proxy.load(self.path(name))

    def delete(self, name: str) -> None:
        """Remove a proxy for good. Raises ``ProxyError`` if there is none of this name."""
        if not (self.path(name) / "manifest.json").is_file():
            raise ProxyError(f"there is no proxy '{name}' in {self.folder}; there is {', '.join(self) or 'none yet'}")
        shutil.rmtree(self.path(name))
