"""The proxy: a trained student that answers a whole plan with one encoder pass a text."""

from __future__ import annotations

import bisect
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np

from langchain_falconer.annotate import Annotation
from langchain_falconer.corpus import overlapping, split_passages
from langchain_falconer.errors import PlanError, ProxyError, SettingsError
from langchain_falconer.evaluate import OperatingPoint, fit_scale, fit_temperature, operating_point
from langchain_falconer.files import write_whole
from langchain_falconer.model.artifact import FILES, FORMAT, read_manifest, replacing_folder
from langchain_falconer.model.cuckoo import PROMPT, ask_one_by_one, cuckoo_slot, cuckoo_tokenizer, is_cuckoo, repeated
from langchain_falconer.model.decoding import Calibration, ScoredPassage, Scores, decide, merge
from langchain_falconer.model.encoder import MODEL_INIT_LOCK, empty_encoder, max_tokens
from langchain_falconer.model.examples import Example, examples_of
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.marking import Marked
from langchain_falconer.model.metamodel import fill, load_model, load_words
from langchain_falconer.model.query_heads import HeadGenerator, ZeroShotEncoder
from langchain_falconer.model.scoring import ScoreFn, Scorer, WindowFn
from langchain_falconer.model.sessions import HeadWeights, OnnxSession, Session, TorchSession, make_executor
from langchain_falconer.model.task_heads import TaskHead, pack, unpack
from langchain_falconer.model.tokenization import Tokenizer, WindowSplitter
from langchain_falconer.plan import LabelOption, LabelStep, Plan, SpanStep, atoms, matches, resolve
from langchain_falconer.records import Answers, Label, LabelValue, Record, Span
from langchain_falconer.settings import DEFAULT_BASE, Metric

PASSAGE_CHARS = 1200
# What to expect of scores before any held-out answer. Trained proxies are far too sure: fitted to the test rows of
# seven data sets, from 80 annotations each, temperatures were 1.6 to 7, slopes 0.14 to 0.26, shifts -0.1 to -1.6.
_TRAINED_TEMPERATURE = 3.0
_TRAINED_SCALE = (0.3, -0.7)
_SPREAD, _OWN_SPREAD = 0.3, 0.2  # of the log slope of a plan's span steps, and of one step around what they share
_OVERLAP = 8  # passages of a long text overlap by this part of their length


class Proxy:
    """A small encoder trained to answer a plan.

    Made by :func:`train_proxy` or :meth:`load`. One folder holds it: ``manifest.json`` (plan, fingerprints, base, data
    hash, seed, metrics, versions), ``model.safetensors``, ``slots.safetensors``, ``model.onnx`` and the tokenizer.
    """

    def __init__(
        self,
        manifest: dict[str, Any],
        tokenizer: Tokenizer,
        slots: HeadWeights,
        model: Any = None,
        memory: Sequence[TaskHead] = (),
    ) -> None:
        self.manifest = manifest
        self.plan = Plan.parse(manifest["plan"])
        self.memory = tuple(memory)
        self.path: Path | None = None
        self._tokenizer = tokenizer
        self._slots = slots
        self._loaded_model = model
        self._session: Session | None = None

    def __repr__(self) -> str:
        return (
            f"Proxy({self.plan.instruction!r}, steps={[s.id for s in self.plan.steps]}, base={self.manifest['base']!r})"
        )

    @property
    def fingerprint(self) -> str:
        """Identity of its answers: plan, slots as trained, calibration, and how texts are cut (16 hex digits)."""
        cut = [self.manifest["passage_chars"], self.manifest["max_tokens"]]
        facts = [self.plan.fingerprint, self._calibration.to_dict(), *cut]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for array in self._slots.arrays().values():
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    # ---- answering

    def get_label(
        self, texts: Sequence[str], instruction: str, labels: Sequence[str | LabelOption] | None = None
    ) -> list[Label]:
        """The label of each text. A question that the proxy was trained on gets the trained answer.

        Any other is answered zero-shot from its words: a start, to be trusted only once it is measured.
        """
        step = LabelStep.model_validate(
            {"id": "label", "instruction": instruction, "labels": list(labels) if labels is not None else None}
        )
        return [answers.labels["label"] for answers in self.ask(texts, step)]

    def get_span(self, texts: Sequence[str], instruction: str) -> list[list[Span]]:
        """Every fitting span of each text, at exact offsets; see :meth:`get_label` on new questions."""
        step = SpanStep(id="span", instruction=instruction)
        return [list(answers.spans["span"]) for answers in self.ask(texts, step)]

    def run(self, texts: Sequence[str]) -> list[Record]:
        """The whole plan over texts; record ids are positions."""
        return [
            self.record(str(i), text, answers)
            for i, (text, answers) in enumerate(zip(texts, self.answers(texts), strict=True))
        ]

    def record(self, record_id: str, text: str, answers: Answers) -> Record:
        """The result row of a text from its answers."""
        kept = resolve(self.plan, answers)
        decided = {s.id: "proxy" for s in self.plan.top_level if s.id in kept}
        return Record(record_id, text, kept.labels, kept.spans, matches(self.plan, kept), decided)

    def answers(self, texts: Sequence[str], *, apply_conditions: bool = True) -> list[Answers]:
        """Every step's answer about each text, steps of spans included.

        Steps whose ``where`` is false are left out if ``apply_conditions``; comparisons with annotations need them.
        May be called from several threads, which then take turns at the network: one computes, others prepare.
        """
        layout, scorer = self._scorers[None]
        passages = [self._passages(text) for text in texts]
        answers = _decided(layout, scorer, texts, passages, self._calibration.thresholds)
        if len(self._scorers) > 1:
            if apply_conditions and not self._waits_for_spans:
                answers = [resolve(self.plan, a) for a in answers]  # spans that do not count are not asked about
            places = [[_Place(text, part) for part in parts] for text, parts in zip(texts, passages, strict=True)]
            answers = self._ask_of_spans(answers, places)
        return [resolve(self.plan, a) for a in answers] if apply_conditions else answers

    def confidence(self, texts: Sequence[str]) -> list[float]:
        """How sure the proxy is of each text, in [0, 1]: the score of its least sure answer."""
        return [confidence_of(answers) for answers in self.answers(texts, apply_conditions=False)]

    def calibrate(self, held_out: Sequence[Annotation], metrics: Mapping[str, Metric] | None = None) -> None:
        """Make scores mean what they say, on annotations that training did not see.

        Label steps get a temperature (Guo et al., 2017), span steps the slope and shift of a logistic curve (Platt,
        1999) through the scores of right and wrong spans: one curve through those of all span steps, from which each
        step departs as far as its own spans tell. Decisions stay as they are but for multi-label ties.

        Args:
            held_out: The annotations; long ones count passage by passage.
            metrics: By the id of a yes/no or multi-label step, what its threshold is to serve (one threshold for all
                options). What that gave is noted in the manifest as ``operating_points``; where no threshold serves
                the metric there is none, and one half decides.

        Raises:
            SettingsError: a metric is of a step that has no threshold.
        """
        metrics = metrics or {}
        check_metrics(self.plan, metrics)
        examples = examples_of(self.plan, held_out, int(self.manifest["passage_chars"]))
        _, scorer = self._scorer(self.plan.steps, Calibration())
        told = list(zip(examples, scorer([e.text for e in examples]), strict=True))
        temperatures: dict[str, float] = {}
        points: dict[str, OperatingPoint | None] = dict.fromkeys(metrics)
        for step in self.plan.steps:
            mine = [(s.labels[step.id], e.labels[step.id]) for e, s in told if step.id in e.labels]
            if isinstance(step, LabelStep) and mine:
                rows, values = np.stack([row for row, _ in mine]), [value for _, value in mine]
                temperatures[step.id] = _temperature(step, rows, values, _TRAINED_TEMPERATURE if self._trained else 1.0)
                if metric := metrics.get(step.id):
                    yes = _softened(rows, temperatures[step.id])
                    points[step.id] = operating_point(metric, yes.ravel(), _truths(step, values).ravel())
        scales = _scales(self.plan, told, _TRAINED_SCALE if self._trained else (1.0, 0.0))
        thresholds = {name: point.threshold for name, point in points.items() if point}
        facts = {k: {"metric": str(metrics[k]), **(p.model_dump() if p else {})} for k, p in points.items()}
        self.update_manifest(
            calibration=Calibration(temperatures, scales, thresholds).to_dict(), operating_points=facts
        )
        self._forget()

    def set_session(self, session: Session) -> None:
        """Compute with this session from now on."""
        self._session = session
        self._forget()

    @property
    def session(self) -> Session:
        """What computes: ONNX Runtime where the proxy was exported, else torch."""
        if self._session is None:
            exported = self.path / FILES["onnx"] if self.path else None
            self._session = OnnxSession(exported) if exported and exported.is_file() else self.torch_session()
        return self._session

    def torch_session(self, *, bf16: bool = False, device: str = "cpu") -> TorchSession:
        """Torch on this proxy's own weights: the float32 original that every faster backend is measured against."""
        return TorchSession(self._model, bf16=bf16, device=device)

    def bf16_session(self, threads: int | None = None) -> Session:
        """Torch on the CPU in bfloat16, by default on all cores of this process."""
        from langchain_falconer.model.bf16_bert import BertSession

        if not BertSession.fits(self._config):
            return self.torch_session(bf16=True)
        return BertSession(self._tensors, self._config, threads)

    # ---- keeping

    def save(self, path: str | Path) -> Path:
        """Write the proxy as a folder, whole or not at all; an older proxy at ``path`` is replaced.

        Raises:
            ProxyError: there is something at ``path`` that is no proxy, or it cannot be written.
        """
        from safetensors.numpy import save_file

        target = Path(path)
        with replacing_folder(target) as folder:
            tensors = {
                k: v.detach().float().contiguous().numpy()
                for k, v in self._model.state_dict().items()
                if v.is_floating_point()
            }
            save_file(tensors, folder / FILES["weights"])
            save_file(self._slots.arrays() | pack(self.memory), folder / FILES["slots"])
            self._tokenizer.save(folder)
            self._model.encoder.config.save_pretrained(folder)
            if self.path and (self.path / FILES["onnx"]).is_file():
                shutil.copyfile(self.path / FILES["onnx"], folder / FILES["onnx"])
            _write_manifest(folder, self.manifest)
        self.path = target
        return target

    def export(self) -> float:
        """Write ``model.onnx`` beside the saved weights through Optimum; returns the largest score difference to torch.

        Raises:
            ProxyError: the proxy was not saved yet, cannot be exported, or its export disagrees.
        """
        from langchain_falconer.model.onnx_export import export_onnx

        if self.path is None:
            raise ProxyError("a proxy is exported beside its saved weights; save it first")
        partial = self.path / ".partial.onnx"
        try:
            with MODEL_INIT_LOCK:
                difference = export_onnx(self._model, partial, self._slots)
            partial.replace(self.path / FILES["onnx"])
        finally:
            partial.unlink(missing_ok=True)
        (self.path / FILES["int8"]).unlink(missing_ok=True)
        self.update_manifest(export={"format": "onnx", "largest_difference": difference})
        self._session = None
        self._forget()
        return difference

    def quantize(self) -> None:
        """Write ``model-int8.onnx`` beside ``model.onnx``: its weights in 8 bits, through Optimum.

        Raises:
            ProxyError: the proxy was not exported yet, or cannot be quantised.
        """
        from langchain_falconer.model.onnx_export import quantize

        if self.path is None or not (self.path / FILES["onnx"]).is_file():
            raise ProxyError("what is quantised is the exported proxy; save and export it first")
        quantize(self.path / FILES["onnx"], self.path / FILES["int8"])

    def update_manifest(self, **facts: Any) -> None:
        """Add facts (metrics, backend figures) to the manifest, on disk too where the proxy was saved."""
        self.manifest = {**self.manifest, **facts}
        if self.path:
            _write_manifest(self.path, self.manifest)

    @classmethod
    def zero_shot(cls, plan: Plan, *, base: str = DEFAULT_BASE, passage_chars: int = PASSAGE_CHARS) -> Proxy:
        """A proxy that answers a plan from the words of its questions alone; nothing is trained.

        How good that is, only annotations can tell: measure it before you trust it. A Cuckoo checkpoint (arXiv
        2502.11275), by folder or hub name, is asked each question in a pass of its own.

        Raises:
            ProxyError: the base cannot be loaded, or is a Cuckoo checkpoint and the plan has label steps.
        """
        if is_cuckoo(base):
            return cls._cuckoo(plan, base, passage_chars)
        words, limit = load_words(base)
        manifest = new_manifest(plan, base, passage_chars, limit)
        proxy = cls(manifest, words.tokenizer, words.slots(HeadIndex.of(plan)))
        proxy.set_session(words.session)
        return proxy

    @classmethod
    def _cuckoo(cls, plan: Plan, base: str, passage_chars: int) -> Proxy:
        slots = repeated(cuckoo_slot(base), HeadIndex.of(plan))
        model = load_model(base)
        manifest = new_manifest(plan, base, passage_chars, max_tokens(model.encoder.config.to_dict()))
        return cls({**manifest, "prompt": PROMPT}, cuckoo_tokenizer(base), slots, model)

    @classmethod
    def load(cls, path: str | Path) -> Proxy:
        """The proxy in a folder. Weights are safetensors; nothing in the folder is ever executed.

        Raises:
            ProxyError: there is no proxy, or it is broken or of another format.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(path)
        if not (folder / FILES["manifest"]).is_file():
            raise ProxyError(f"there is no proxy at {folder} (no manifest.json); train one or name another folder")
        try:
            manifest = read_manifest(folder)
            arrays = load_file(folder / FILES["slots"])
            slots = HeadWeights(**{name: a for name, a in arrays.items() if not name.startswith("memory.")})
            memory = unpack(manifest.get("memory", []), arrays)
            proxy = cls(manifest, Tokenizer.read(folder), slots, memory=memory)
            proxy._check_fit()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, PlanError) as error:
            raise ProxyError(
                f"the proxy at {folder} is broken ({str(error).splitlines()[0][:160]}); train it again"
            ) from None
        proxy.path = folder
        return proxy

    def recall(self, plan: Plan) -> Proxy:
        """A proxy for a plan that this one learnt before its own (see ``after`` of :func:`train_proxy`).

        It answers with the weights as they are now; its scores are not calibrated.

        Raises:
            ProxyError: this proxy never learnt the plan.
        """
        found = next((old for old in self.memory if old.plan.fingerprint == plan.fingerprint), None)
        if found is None:
            raise ProxyError(f"this proxy never learnt the plan '{plan.instruction}'; train one for it")
        told = self.manifest
        manifest = new_manifest(plan, told["base"], told["passage_chars"], told["max_tokens"])
        proxy = Proxy(manifest, self._tokenizer, found.slots, self._model)
        proxy.set_session(self.session)
        return proxy

    def with_plan(self, plan: Plan, steps: Mapping[str, str]) -> Proxy:
        """This proxy for another plan, each of whose steps is answered by one of its own.

        Args:
            plan: What is asked.
            steps: The id of the own step that answers, by the id of each step of ``plan``; both of the same kind, with
                the same label names.
        """
        layout, own = HeadIndex.of(plan), self._layout
        label_rows = []
        for step in layout.steps:
            if isinstance(step, LabelStep):
                answering = self.plan[steps[step.id]]
                assert isinstance(answering, LabelStep)
                first = own.label_rows[answering.id].start
                places = [answering.names.index(name) for name in step.names] or [0]
                label_rows += [first + place for place in places]
        span_rows = [own.span_row[steps[s.id]] for s in layout.steps if isinstance(s, SpanStep)]
        known = self._calibration
        calibration = Calibration(
            {s: known.temperatures[o] for s, o in steps.items() if o in known.temperatures},
            {s: known.scales[o] for s, o in steps.items() if o in known.scales},
            {s: known.thresholds[o] for s, o in steps.items() if o in known.thresholds},
        )
        told = self.manifest
        manifest = new_manifest(plan, told["base"], told["passage_chars"], told["max_tokens"])
        manifest |= {"calibration": calibration.to_dict()}
        manifest |= {"prompt": told["prompt"]} if "prompt" in told else {}
        proxy = Proxy(manifest, self._tokenizer, self._slots.take(span_rows, label_rows))
        proxy.set_session(self.session)
        return proxy

    # ---- inside

    def _forget(self) -> None:
        """What follows from session and calibration is made anew."""
        for name in ("_crew", "_scorers"):
            self.__dict__.pop(name, None)

    @cached_property
    def _crew(self) -> Executor:
        return make_executor(self.session.n_parallel)

    def _check_fit(self) -> None:
        """Raises ``ValueError`` where the parts of a folder are not of one proxy."""
        spans, labels = len(self._slots.span_bias), len(self._slots.label_bias)
        if (spans, labels) != (3 * len(self._layout.span_texts), len(self._layout.label_texts)):
            raise ValueError("its slots are not those of its plan")

    @property
    def _config(self) -> dict[str, Any]:
        """The encoder's config.json."""
        if self.path is None:
            told: dict[str, Any] = self._model.encoder.config.to_dict()
            return told
        return dict(json.loads((self.path / FILES["config"]).read_text("utf-8")))

    @property
    def _tensors(self) -> dict[str, Any]:
        """The network's weights by name, from the disk where they are there: transformers is not needed for them."""
        from safetensors.torch import load_file

        return load_file(self.path / FILES["weights"]) if self.path else self._model.state_dict()

    @cached_property
    def _model(self) -> Any:
        if self._loaded_model is not None:
            return self._loaded_model
        if self.path is None:
            return load_model(self.manifest["base"])
        from langchain_falconer.model.network import QueryHeadModel

        with MODEL_INIT_LOCK:
            model = QueryHeadModel(empty_encoder(str(self.path)))
            fill(model, self.path)
            return model.eval()

    @cached_property
    def _words(self) -> ZeroShotEncoder:
        maps = HeadGenerator.read(self.path / FILES["weights"]) if self.path else HeadGenerator.of(self._model)
        return ZeroShotEncoder(self.session, self._tokenizer, maps)

    @cached_property
    def _layout(self) -> HeadIndex:
        return HeadIndex.of(self.plan)

    @cached_property
    def _windows(self) -> WindowSplitter:
        return WindowSplitter(self._tokenizer, int(self.manifest["max_tokens"]))

    @cached_property
    def _scorers(self) -> dict[str | None, tuple[HeadIndex, ScoreFn]]:
        """A scorer for the steps about the text (key None), and one for each span step that others are ``of``."""
        groups = {None: self.plan.top_level} | {s.id: c for s in self.plan.steps if (c := self.plan.children(s.id))}
        return {key: self._scorer(steps, self._calibration) for key, steps in groups.items()}

    @property
    def _trained(self) -> bool:
        """Whether its scores come of training, not of the base that was kept."""
        training = self.manifest.get("training")
        return training is not None and training.get("kept") != "base"

    @property
    def _calibration(self) -> Calibration:
        return Calibration.read(self.manifest.get("calibration"))

    def _scorer(self, steps: Sequence[LabelStep | SpanStep], calibration: Calibration) -> tuple[HeadIndex, ScoreFn]:
        span_rows = [self._layout.span_row[s.id] for s in steps if isinstance(s, SpanStep)]
        label_rows = [
            row
            for s in steps
            if isinstance(s, LabelStep)
            for row in range(self._layout.label_rows[s.id].start, self._layout.label_rows[s.id].stop)
        ]
        layout = HeadIndex.of(steps)
        weights = self._slots.take(span_rows, label_rows)
        return layout, self._new_scorer(layout, weights, calibration)

    def _new_scorer(self, layout: HeadIndex, weights: HeadWeights, calibration: Calibration) -> ScoreFn:
        def scorer(windows: WindowFn, layout: HeadIndex, weights: HeadWeights) -> ScoreFn:
            return Scorer(windows, self._tokenizer.pad_id, layout, weights, calibration, self.session, self._crew)

        if self._prompts:
            limit = int(self.manifest["max_tokens"])
            return ask_one_by_one(self._tokenizer, limit, layout, weights, scorer)
        return scorer(self._windows, layout, weights)

    def _new_slots(self, layout: HeadIndex) -> HeadWeights:
        """Query heads for a question that the proxy does not know."""
        return repeated(self._slots, layout) if self._prompts else self._words.slots(layout)

    @property
    def _prompts(self) -> bool:
        return bool(self.manifest.get("prompt") == PROMPT)

    @cached_property
    def _waits_for_spans(self) -> bool:
        """Whether a step about the text hangs on the answers about its spans."""
        conditions = [step.where for step in self.plan.top_level if step.where]
        return any(self.plan[atom.step].of for where in conditions for atom in atoms(where))

    def _passages(self, text: str) -> list[tuple[int, int]]:
        """Where the passages of a text lie; they overlap, so that what straddles a cut is seen whole."""
        most = int(self.manifest["passage_chars"])
        return overlapping(text, split_passages(text, most), most // _OVERLAP) or [(0, 0)]  # nothing but blanks

    def _ask_of_spans(self, answers: list[Answers], places: list[list[_Place]]) -> list[Answers]:
        spans = [dict(a.spans) for a in answers]
        for step in self.plan.top_level:
            if step.id in self._scorers:
                asked = [(i, s) for i, own in enumerate(spans) for s in own.get(step.id, ())]
                told = iter(self._about(step.id, [(_place_of(places[i], s), s) for i, s in asked]))
                for own in spans:
                    if step.id in own:
                        own[step.id] = tuple(next(told) for _ in own[step.id])
        return [replace(a, spans=own) for a, own in zip(answers, spans, strict=True)]

    def _about(self, parent: str, asked: list[tuple[_Place, Span]]) -> list[Span]:
        """Each span with what the steps of ``parent`` answer about it, nested as deep as the plan goes."""
        if parent not in self._scorers or not asked:
            return [span for _, span in asked]
        layout, scorer = self._scorers[parent]
        marked = [Marked(place.passage, span.start - place.start, span.end - place.start) for place, span in asked]
        told = []
        for (place, span), mark, scores in zip(asked, marked, scorer([m.marked for m in marked]), strict=True):
            found = decide(layout.steps, _unmarked(scores, mark, place.start), place.text, self._calibration.thresholds)
            inner = {k: tuple(self._about(k, [(place, s) for s in v])) for k, v in found.spans.items()}
            told.append(replace(span, labels=found.labels, spans=inner))
        return told

    def ask(self, texts: Sequence[str], step: LabelStep | SpanStep) -> list[Answers]:
        """The answer to one step about each text, under the step's own id; see :meth:`get_label` on new questions."""
        known = _same(self.plan, step)
        if known is None:
            for old in self.memory:
                if _same(old.plan, step):
                    return self.recall(old.plan).ask(texts, step)
        if known is not None:
            asked, calibration = known, self._calibration
            layout, scorer = self._scorer([known], calibration)
        else:
            asked, calibration, layout = step, Calibration(), HeadIndex.of([step])
            scorer = self._new_scorer(layout, self._new_slots(layout), calibration)
        answers = _decided(layout, scorer, texts, [self._passages(text) for text in texts], calibration.thresholds)
        if isinstance(step, LabelStep):
            return [Answers(labels={step.id: a.labels[asked.id]}) for a in answers]
        return [Answers(spans={step.id: a.spans[asked.id]}) for a in answers]


def _same(plan: Plan, step: LabelStep | SpanStep) -> LabelStep | SpanStep | None:
    """The step of a plan that asks the very same question."""
    return next((own for own in plan.steps if own.fingerprint == step.fingerprint), None)


class _Place:
    """A passage and the text it lies in."""

    __slots__ = ("end", "start", "text")

    def __init__(self, text: str, part: tuple[int, int]) -> None:
        self.text = text
        self.start, self.end = part

    @property
    def passage(self) -> str:
        return self.text[self.start : self.end]


def _decided(
    layout: HeadIndex,
    scorer: ScoreFn,
    texts: Sequence[str],
    passages: Sequence[Sequence[tuple[int, int]]],
    thresholds: Mapping[str, float],
) -> list[Answers]:
    """The answers about each text, its passages scored in common batches and put back together."""
    scores = iter(scorer([text[a:b] for text, parts in zip(texts, passages, strict=True) for a, b in parts]))
    merged = [merge([ScoredPassage(part[0], next(scores), part) for part in parts], layout) for parts in passages]
    return [decide(layout.steps, one, text, thresholds) for one, text in zip(merged, texts, strict=True)]


def _place_of(places: list[_Place], span: Span) -> _Place:
    """The first passage that holds the span: passages overlap, and their ends rise as their begins do."""
    return places[bisect.bisect_left(places, span.end, key=lambda place: place.end)]


def _unmarked(scores: Scores, mark: Marked, offset: int) -> Scores:
    """Scores of a marked passage with spans in offsets of the whole text; a span of nothing but markers is none."""
    spans = {}
    for step_id, found in scores.spans.items():
        moved = [(mark.unmap(a), mark.unmap(b), p) for a, b, p in found]
        spans[step_id] = [(a + offset, b + offset, p) for a, b, p in moved if a < b]
    return Scores(scores.labels, spans, scores.none_prob, scores.weight)


def confidence_of(answers: Answers) -> float:
    """How sure a proxy is of its answers about a text, in [0, 1]: of the least sure, spans not taken included."""
    return min([1.0, *_all_scores(answers), *answers.none_prob.values()])


def _all_scores(answers: Answers | Span) -> list[float]:
    own = [label.score for label in answers.labels.values()]
    for spans in answers.spans.values():
        for span in spans:
            own += [span.score, *_all_scores(span)]
    return own


def _temperature(step: LabelStep, probabilities: np.ndarray, values: Sequence[LabelValue], around: float) -> float:
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    if step.kind == "choice":
        return fit_temperature(np.log(p), np.array([step.names.index(str(v)) for v in values]), around=around)
    binary = np.stack([np.log(1 - p.ravel()), np.log(p.ravel())], axis=1)
    return fit_temperature(binary, _truths(step, values).ravel().astype(np.int64), around=around)


def _scales(
    plan: Plan, told: Sequence[tuple[Example, Scores]], around: tuple[float, float]
) -> dict[str, tuple[float, float]]:
    """Slope and shift of each span step; those of a step with few spans are close to what all span steps share."""
    found = {
        step.id: [
            (p, (a, b) in e.spans[step.id]) for e, s in told if step.id in e.spans for a, b, p in s.spans[step.id]
        ]
        for step in plan.steps
        if isinstance(step, SpanStep)
    }
    shared = fit_scale(*_columns([one for mine in found.values() for one in mine]), around=around, spread=_SPREAD)
    if len(found) == 1:
        return dict.fromkeys(found, shared)
    return {name: fit_scale(*_columns(mine), around=shared, spread=_OWN_SPREAD) for name, mine in found.items()}


def _columns(scored: Sequence[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [score for score, _ in scored], [right for _, right in scored]


def _truths(step: LabelStep, values: Sequence[LabelValue]) -> np.ndarray:
    """Whether yes is right of each value and option, (n, options)."""
    if step.kind == "yes_no":
        return np.array([[bool(v)] for v in values])
    return np.array([[name in cast(tuple[str, ...], v) for name in step.names] for v in values])


def _softened(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of yes at a temperature, as they are told later."""
    yes, no = (p ** (1.0 / temperature) for p in (probabilities, 1.0 - probabilities))
    softened: np.ndarray = yes / (yes + no)
    return softened


def check_metrics(plan: Plan, metrics: Mapping[str, Metric]) -> None:
    """Raises ``SettingsError`` where a metric is of no step that says yes or no."""
    able = [s.id for s in plan.steps if isinstance(s, LabelStep) and s.kind != "choice"]
    for name in metrics:
        if name not in able:
            steps = f"those of this plan are {', '.join(map(repr, able))}" if able else "this plan has none"
            raise SettingsError(f"step '{name}' has no threshold to choose; yes/no and any-of steps do: {steps}")


class Embedder:
    """Sentence vectors from an untrained base: what sampling and the registry measure nearness with."""

    def __init__(self, base: str = DEFAULT_BASE) -> None:
        self.base = base

    @cached_property
    def _words(self) -> ZeroShotEncoder:
        return load_words(self.base)[0]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors (n, d), float32."""
        return self._words.embed(texts)


def new_manifest(plan: Plan, base: str, passage_chars: int, limit: int) -> dict[str, Any]:
    """What is true of a proxy before any training."""
    return {
        "format": FORMAT,
        "plan": plan.to_dict(),
        "plan_fingerprint": plan.fingerprint,
        "step_fingerprints": {s.id: s.fingerprint for s in plan.steps},
        "base": base,
        "passage_chars": passage_chars,
        "max_tokens": limit,
        "settings": {},
        "data": {"annotations": 0, "examples": 0, "unlabelled": 0},
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
    }


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    write_whole(folder / FILES["manifest"], json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
