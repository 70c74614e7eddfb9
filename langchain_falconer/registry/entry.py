"""Entries of the registry, read from the manifests of proxies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from langchain_falconer.corpus import text_id
from langchain_falconer.errors import PlanError
from langchain_falconer.evaluate import Quality
from langchain_falconer.model.artifact import FILES, read_manifest
from langchain_falconer.plan import LabelStep, Plan, SpanStep


@dataclass(frozen=True)
class Entry:
    """A proxy as described by its manifest; weights are not read.

    Attributes:
        name: Name in the registry.
        path: Folder.
        created: Time at which the weights were written here (UTC).
        size: Bytes on disk.
        plan: Plan that the proxy answers; None only if it is broken.
        quality: Agreement with the annotator on held-out texts; None if it was not measured.
        manifest: Content of the manifest; empty if the proxy is broken.
        broken: Reason why the proxy cannot be used; None if it can.
    """

    name: str
    path: Path
    created: datetime
    size: int
    plan: Plan | None = None
    quality: Quality | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    broken: str | None = None

    @property
    def steps(self) -> tuple[LabelStep | SpanStep, ...]:
        """The steps of its plan; none if it is broken."""
        return self.plan.steps if self.plan else ()

    def trained_on(self, texts: Iterable[str]) -> bool:
        """Return whether the proxy was trained on any of these texts, and so must not be evaluated on them."""
        trained = set(self.manifest.get("seen", ()))
        return any(text_id(text) in trained for text in texts)

    def to_dict(self) -> dict[str, object]:
        """Return the entry as JSON data: plan, base, data, quality and step fingerprints, null where broken."""
        facts = {"name": self.name, "path": str(self.path), "created": self.created.isoformat(timespec="seconds")}
        described = {key: self.manifest.get(key) for key in ("plan", "base", "data", "quality")}
        fingerprints = {step.id: step.fingerprint for step in self.steps}
        return {**facts, "size": self.size, "broken": self.broken, **described, "step_fingerprints": fingerprints}


def read_entry(folder: Path) -> Entry:
    """Read the entry of the proxy in a folder; a broken proxy has the reason in ``broken``."""
    facts = (folder.name, folder, _created(folder), _size(folder))
    try:
        manifest = read_manifest(folder)
        quality = Quality.model_validate(manifest["quality"]) if manifest.get("quality") else None
        return Entry(*facts, Plan.parse(manifest["plan"]), quality, manifest)
    except FileNotFoundError:
        return Entry(*facts, broken=f"it has no {FILES['manifest']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, PlanError) as error:
        return Entry(*facts, broken=str(error)[:200])


def _created(folder: Path) -> datetime:
    try:
        written = (folder / FILES["heads"]).stat()  # unlike the manifest, never written again
    except OSError:
        written = folder.stat()
    return datetime.fromtimestamp(written.st_mtime, timezone.utc)


def _size(folder: Path) -> int:
    size = 0
    with suppress(OSError):  # no permission, or a partial file that was just renamed
        for file in folder.iterdir():
            size += file.stat().st_size
    return size
