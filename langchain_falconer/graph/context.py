"""The context of the nodes: home, LLM, settings, and the files of a job."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from langchain_falconer.annotate import HUMAN, Annotation, AnnotationStore, Budget, source_of, stored_annotations
from langchain_falconer.annotate.splits import Sample, sample_certification_rows
from langchain_falconer.corpus import (
    Corpus,
    Dataset,
    EmbeddingStore,
    KeyCollector,
    PassageIndex,
    Passages,
    Place,
    Url,
    as_place,
    open_corpus_files,
    split_passages,
)
from langchain_falconer.errors import AnnotationError, CorpusError, RunError
from langchain_falconer.files import digest, file_digest, read_json, replacing, write_json
from langchain_falconer.graph.home import Home
from langchain_falconer.graph.state import AskOptions, FalconerInput, FalconerState
from langchain_falconer.llm import LLM
from langchain_falconer.model import Embedder
from langchain_falconer.plan import Plan
from langchain_falconer.settings import MineSettings, Targets

Emit = Callable[[Mapping[str, object]], None]
"""Receives progress events; the graph adds the name of the stage."""
Update = Mapping[str, object]
"""The fields of :class:`FalconerState` that a node returns."""
_INDEXED_TOKENS = 128  # of a passage; more of them cost twice the time


@dataclass(frozen=True)
class NodeContext:
    """One home, one LLM (or a recording of one) and one set of settings.

    Attributes:
        home: Folder of everything that outlives a process.
        llm: Plans and annotates; None where plan and annotations (or a recording) are passed.
        settings: How to mine.
        recorded: Source in the annotation store whose answers stand in for an LLM.
        emit: Receives progress events.
        addresses: Whole addresses of URLs by what the state shows of them: credentials are never in the state.
    """

    home: Home
    llm: LLM | None
    settings: MineSettings
    recorded: str | None = None
    emit: Emit = lambda _: None
    addresses: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.llm is not None and self.llm.is_decider:  # it is asked about one text a call, in one wording
            annotate = self.settings.annotate.model_copy(update={"texts_per_call": 1, "repeated": 0.0, "pilot": 0})
            object.__setattr__(self, "settings", self.settings.model_copy(update={"annotate": annotate}))

    # ---- the job

    def job_id(self, state: FalconerInput) -> str:
        """Return the identity of a job: question, data, annotator and settings; budget and output may change."""
        excluded: Any = {
            "annotate": {"batch"},
            "budget": True,
            "run": True,
            "corpus": True,
            "targets": {"escalate"},
            "train": {"device"},
        }
        options = self.options(state)
        return digest(
            state["instruction"],
            state.get("plan"),
            self._texts(state),
            bool(state.get("annotations")),
            file_digest(state.get("annotations")),
            self.llm.name if self.llm else self.recorded,
            self.settings.model_dump(mode="json", exclude=excluded),
            options.model_dump(exclude={"refresh"}) if options else None,
        )

    def locked(self, job_id: str) -> FileLock:
        """Return the lock of a job: another process, or thread, that works on it waits, and finds what was done."""
        return FileLock(self.home.lock_file(job_id), thread_local=False)

    def folder(self, state: FalconerState) -> Path:
        """Return the folder of a job, by plan: an edited plan starts with a sample of its own."""
        return self.home.run_folder(f"{state['run_id']}-{self.plan(state).fingerprint[:8]}")

    # ---- inputs

    def place(self, path: str) -> Place:
        """Return the path or URL that the state names, with its credentials."""
        return as_place(path, self.addresses)

    @staticmethod
    def plan(state: FalconerState) -> Plan:
        """Return the plan of the state."""
        return Plan.parse(state["plan"] or {})

    @staticmethod
    def options(state: FalconerInput) -> AskOptions | None:
        """Return the options of a question; None where a corpus is mined without routing."""
        options = state.get("ask")
        return AskOptions.model_validate(options) if options is not None else None

    def corpus(self, state: FalconerInput) -> Corpus:
        """Open the corpus. Raises ``CorpusError`` if it cannot be read."""
        return open_corpus_files(self._places(state), self.settings.corpus)

    def dataset(self, state: FalconerInput) -> Dataset:
        """Return the corpus in partitions. Raises ``CorpusError`` if it cannot be read."""
        places = self._places(state)
        if data := state.get("dataset"):
            return Dataset.from_dict(data, self.settings.corpus)
        return Dataset.of_files(places, self.settings.corpus)

    def _texts(self, state: FalconerInput) -> str:
        """Return the digest of the texts: a job goes on with its answers where only other columns were edited.

        Files are read for it once, remote ones never: theirs is a digest of their versions.
        """
        places = self._places(state)
        if state.get("dataset") or any(isinstance(place, Url) for place in places):
            return self.dataset(state).fingerprint
        corpus = open_corpus_files(places, self.settings.corpus.model_copy(update={"keep": "none"}))
        file = self.home.texts_file(corpus.fingerprint)
        if (cached := read_json(file)) is None:
            write_json(file, cached := {"texts": corpus.texts_digest()})
        return str(cached["texts"])

    def _places(self, state: FalconerInput) -> list[Place]:
        if not state["corpus"]:
            raise CorpusError("no corpus was passed; name at least one file or folder")
        return [self.place(path) for path in state["corpus"]]

    def source(self, state: FalconerInput) -> str:
        """Return whose answers count: a person's, the LLM's, or those of the LLM that was recorded."""
        if state.get("annotations"):
            return HUMAN
        if self.llm is not None:
            return source_of(self.llm.name, self.settings.annotate.prompts)
        if self.recorded is None:
            raise AnnotationError("nothing annotates the texts; name an LLM or a file of annotations")
        return self.recorded

    def stored_source(self, state: FalconerState) -> str:
        """Return the source in the annotation store; a person's answers belong to a run, whose id tells files apart."""
        return f"{HUMAN}:{state['run_id']}" if state.get("annotations") else self.source(state)

    def annotations(self, store: AnnotationStore, state: FalconerState, texts: Iterable[str]) -> list[Annotation]:
        """Read the annotations of texts that count in this run; see :func:`stored_annotations`."""
        return stored_annotations(store, self.plan(state), texts, self.stored_source(state))

    def targets(self, state: FalconerInput) -> Targets | None:
        """Return the targets: those of the settings, and the quality that a question asks for."""
        options = self.options(state)
        if options is None or options.quality is None or state.get("annotations"):
            return self.settings.targets
        if self.settings.targets is None:
            return Targets(agreement=options.quality)
        return self.settings.targets.model_copy(update={"agreement": options.quality})

    # ---- what earlier nodes left

    def sample(self, state: FalconerState) -> Sample:
        """Read the sample of this round. Raises ``RunError`` if it is gone."""
        sample = Sample.load(self.sample_file(state, state["round"]))
        if sample is None:
            raise RunError(f"the sample of run {state['run_id']} is gone from {self.home.folder}; start the run again")
        return sample

    def sample_file(self, state: FalconerState, annotation_round: int) -> Path:
        """Return the file of a sample: each round has its own, so that a run that is resumed takes the same rounds."""
        return self.folder(state) / f"sample-{annotation_round}.json"

    def certification_sample(self, state: FalconerState) -> dict[int, str]:
        """Return the rows that certificates rest on, by position in the corpus; empty without targets."""
        targets = self.targets(state)
        if targets is None:
            return {}
        file = self.folder(state) / "certification.json"
        if (cached := read_json(file)) is None:
            rows = sample_certification_rows(self.corpus(state), targets.annotations, self.settings.seed)
            write_json(file, cached := {"rows": list(rows.items())})
        return dict(cached["rows"])

    def passages(self, state: FalconerState) -> Passages:
        """Open the passages of the corpus; rows are counted in progress events."""
        return Passages(self.corpus(state), self.settings.passage_chars, lambda n: self.emit({"done": n}))

    @cached_property
    def embedder(self) -> Embedder:
        """What embeds passages."""
        return Embedder(self.settings.base, _INDEXED_TOKENS)

    def passage_index(self, state: FalconerState) -> PassageIndex:
        """Return the index of the corpus' passages; those that this home never saw are embedded first."""
        file = self.folder(state) / "passages.npy"
        if not file.is_file():
            collector = KeyCollector(max(1, self.settings.indexed))
            deque(collector.watch(self.passages(state)), maxlen=0)
            self.save_passage_keys(state, collector)
        store = EmbeddingStore(self.home.embeddings / self.embedder.fingerprint, self.embedder.width)
        index = PassageIndex(lambda: self.passages(state), np.load(file, allow_pickle=False), store, self.embedder)
        return index.build(lambda n, total: self.emit({"stage": "index", "done": n, "total": total}))

    def save_passage_keys(self, state: FalconerState, collector: KeyCollector) -> None:
        """Write the keys of the passages that are indexed, as collected in a pass over the corpus."""
        keys = collector.keys()
        if collector.is_sample:
            self.emit({"note": f"candidates are sought among {len(keys):,} passages, drawn uniformly from more"})
        with replacing(self.folder(state) / "passages.npy") as partial, partial.open("wb") as file:
            np.save(file, keys, allow_pickle=False)

    def quality_file(self, state: FalconerState) -> Path:
        """Return the file of the quality with its mistakes, whose words of texts are never in the state."""
        return self.folder(state) / "quality.json"

    def corrected_texts(self, state: FalconerState) -> list[str]:
        """Return texts outside the sample that a person answered: the proxy learns from them too."""
        return list((read_json(self._corrected_file(state)) or {}).get("texts", ()))

    def add_corrected_texts(self, state: FalconerState, texts: Iterable[str]) -> None:
        """Add texts to learn from, but none of those that measure anything, whole or in a passage."""
        sample = self.sample(state)
        measuring = {*sample.held_out, *self.certification_sample(state).values()}
        known = {*sample.train, *measuring}
        others = [
            text
            for text in texts
            if text not in known
            and measuring.isdisjoint(text[a:b] for a, b in split_passages(text, self.settings.passage_chars))
        ]
        merged = list(dict.fromkeys([*self.corrected_texts(state), *others]))
        write_json(self._corrected_file(state), {"texts": merged})

    def _corrected_file(self, state: FalconerState) -> Path:
        return self.folder(state) / "corrected_texts.json"

    def summary_file(self, state: FalconerState) -> Path:
        """Return the file of the whole summary, words of texts included."""
        return self.folder(state) / "summary.json"

    def llm_pace_file(self, state: FalconerState) -> Path:
        """Return the file that counts seconds and texts of the LLM over all invocations of a job."""
        return self.folder(state) / "llm_pace.json"

    def learning_curve_file(self, state: FalconerState) -> Path:
        """Return the file of the learning curve."""
        return self.folder(state) / "learning_curve.json"

    # ---- resources

    def budget(self, store: AnnotationStore, run_id: str) -> Budget:
        """Return the budget of a job; the context must have an LLM."""
        if self.llm is None:
            raise AnnotationError("nothing annotates the texts; name an LLM")
        return Budget(store, run_id, self.settings.budget, self.llm.price() is not None)

    def store(self) -> AnnotationStore:
        """Open the annotation store; close it after use."""
        return self.home.store()

    @contextmanager
    def timed(self, state: FalconerState, stage: str) -> Iterator[dict[str, float]]:
        """Announce begin and end of a stage, and time it on top of earlier visits; yields seconds per stage."""
        seconds = dict(state.get("seconds", {})) if stage != "plan" else {}
        self.emit({"event": "begin"})
        began = time.monotonic()
        yield seconds
        seconds[stage] = seconds.get(stage, 0.0) + time.monotonic() - began
        self.emit({"event": "end", "seconds": round(seconds[stage], 2)})
