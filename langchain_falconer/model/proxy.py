"""The proxy: a trained student that answers a whole plan with one encoder pass per text."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_falconer.corpus import checked_texts
from langchain_falconer.errors import PlanError, ProxyError, first_line
from langchain_falconer.files import digest, file_digest, write_whole
from langchain_falconer.model.artifact import FILES, FORMAT, read_manifest, replacing_folder
from langchain_falconer.model.cuckoo import PROMPT, cuckoo_head, cuckoo_tokenizer, is_cuckoo, repeat_head
from langchain_falconer.model.decoding import Calibration
from langchain_falconer.model.devices import resolve_device
from langchain_falconer.model.encoder import MODEL_INIT_LOCK, base_folder, max_tokens
from langchain_falconer.model.head_index import HeadIndex
from langchain_falconer.model.metamodel import load_model, load_zero_shot_encoder
from langchain_falconer.model.network_source import NetworkSource
from langchain_falconer.model.predictor import InputLimits, Predictor
from langchain_falconer.model.query_heads import MAX_TOKENS, ZeroShotEncoder
from langchain_falconer.model.scoring import ScoreFn
from langchain_falconer.model.sessions import HeadWeights, OnnxSession, Session, TorchSession
from langchain_falconer.model.task_heads import TaskHead, pack, unpack
from langchain_falconer.model.tokenization import Tokenizer
from langchain_falconer.plan import LabelOption, LabelStep, Plan, SpanStep, matches, resolve
from langchain_falconer.records import Answers, Label, Record, Span
from langchain_falconer.settings import DEFAULT_BASE, DeviceName

if TYPE_CHECKING:
    from langchain_falconer.model.proxy_runnable import ProxyRunnable

PASSAGE_CHARS = 1200


class Proxy:
    """A small encoder trained to answer a plan.

    Returned by :func:`train_proxy`, :meth:`load` or :meth:`zero_shot`. One folder holds it: ``manifest.json`` (plan,
    fingerprints, base, data hash, seed, metrics, versions), ``model.safetensors``, ``heads.safetensors`` (query heads),
    ``model.onnx`` and the tokenizer.

    Args:
        manifest: Facts about the proxy as JSON data.
        tokenizer: Reads the texts.
        heads: Query heads of the plan's steps.
        network: The weights.
        memory: Heads of plans that the same network learned earlier.
        path: The folder that it was saved to or loaded from.
        session: Computes the network; by default ONNX Runtime where the proxy was exported, else torch.
    """

    def __init__(
        self,
        manifest: Mapping[str, Any],
        tokenizer: Tokenizer,
        heads: HeadWeights,
        network: NetworkSource,
        *,
        memory: Sequence[TaskHead] = (),
        path: Path | None = None,
        session: Session | None = None,
    ) -> None:
        self.manifest = dict(manifest)
        self.plan = Plan.parse(manifest["plan"])
        self.tokenizer = tokenizer
        self.heads = heads
        self.network = network
        self.memory = tuple(memory)
        self.path = path
        self._session = session

    def __repr__(self) -> str:
        return (
            f"Proxy({self.plan.instruction!r}, steps={[s.id for s in self.plan.steps]}, base={self.manifest['base']!r})"
        )

    @property
    def fingerprint(self) -> str:
        """Digest of what determines the answers: plan, heads, calibration, limits of texts (16 hex digits)."""
        limits = [self.manifest["passage_chars"], self.manifest["max_tokens"]]
        facts = [self.plan.fingerprint, self._calibration.to_dict(), *limits]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        for array in self.heads.arrays().values():
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    # ---- answering

    def get_label(
        self, texts: Sequence[str], instruction: str, labels: Sequence[str | LabelOption] | None = None
    ) -> list[Label]:
        """Return the label of each text.

        A question that the proxy was trained on gets the trained answer. Any other question is answered zero-shot from
        its words; measure such answers before you rely on them.

        Args:
            texts: The texts, of any length.
            instruction: The question.
            labels: Names of the labels, or labels with descriptions, one of which is chosen; ``None`` (default) for
                yes/no.
        """
        if isinstance(labels, str):
            raise PlanError(f"labels is one string; pass a list of labels, such as [{labels!r}, …]")
        step = LabelStep.model_validate(
            {"id": "label", "instruction": instruction, "labels": list(labels) if labels is not None else None}
        )
        return [answers.labels["label"] for answers in self.answer_step(texts, step)]

    def get_span(self, texts: Sequence[str], instruction: str) -> list[list[Span]]:
        """Return every fitting span of each text, at exact offsets; see :meth:`get_label` on new questions.

        Args:
            texts: The texts, of any length.
            instruction: What to extract.
        """
        step = SpanStep(id="span", instruction=instruction)
        return [list(answers.spans["span"]) for answers in self.answer_step(texts, step)]

    def run(self, texts: Sequence[str], *, device: DeviceName | None = None) -> list[Record]:
        """Run the whole plan over texts; record ids are positions.

        Args:
            texts: The texts, of any length.
            device: Compute there from now on, see :meth:`to`; ``None`` (default) is where it computes already.
        """
        if device is not None:
            self.to(device)
        texts = checked_texts(texts)
        return [
            self.record(str(i), text, answers)
            for i, (text, answers) in enumerate(zip(texts, self.answers(texts), strict=True))
        ]

    def as_runnable(self) -> ProxyRunnable:
        """Return the proxy as a LangChain ``Runnable`` from a list of texts, or documents, to their records."""
        from langchain_falconer.model.proxy_runnable import ProxyRunnable

        return ProxyRunnable(self)

    def record(self, record_id: str, text: str, answers: Answers) -> Record:
        """Make the result row of a text from its answers."""
        own = resolve(self.plan, answers)
        decided_by = {s.id: "proxy" for s in self.plan.top_level if s.id in own}
        return Record(record_id, text, own.labels, own.spans, matches(self.plan, own), decided_by)

    def answers(self, texts: Sequence[str], *, apply_conditions: bool = True) -> list[Answers]:
        """Answer every step about each text; see :meth:`Predictor.answers`."""
        return self.predictor.answers(checked_texts(texts), apply_conditions=apply_conditions)

    def answer_step(self, texts: Sequence[str], step: LabelStep | SpanStep) -> list[Answers]:
        """Answer one step about each text, under the step's own id; see :meth:`get_label` on new questions."""
        texts = checked_texts(texts)
        own = _same_question(self.plan, step)
        if own is not None:
            answers, step_id = self.predictor.answer_step(own, texts), own.id
        elif earlier := next((old for old in self.memory if _same_question(old.plan, step)), None):
            return self.recall(earlier.plan).answer_step(texts, step)
        else:
            answers, step_id = self.predictor.answer_new(step, texts, self._new_heads([step])), step.id
        if isinstance(step, LabelStep):
            return [Answers(labels={step.id: a.labels[step_id]}) for a in answers]
        return [Answers(spans={step.id: a.spans[step_id]}) for a in answers]

    def step_scorer(self, steps: Sequence[LabelStep | SpanStep]) -> ScoreFn:
        """Return a function that scores any questions about texts, in one encoder pass a text.

        Args:
            steps: The questions, with ids of their own; see :meth:`get_label` on new ones. Their ``where`` and ``of``
                do not count.
        """
        same = {step.id: _same_question(self.plan, step) for step in steps}
        new = [step for step in steps if same[step.id] is None]
        heads = self._new_heads(new) if new else self.heads.take([], [])
        return self.predictor.step_scorer(steps, {name: own.id for name, own in same.items() if own}, heads)

    def confidence(self, texts: Sequence[str]) -> list[float]:
        """Return the proxy's confidence in each text, in [0, 1]: the score of its least certain answer."""
        return [confidence_of(answers) for answers in self.answers(texts, apply_conditions=False)]

    @cached_property
    def predictor(self) -> Predictor:
        """The predictor with the current session and calibration."""
        manifest = self.manifest
        limits = InputLimits(
            int(manifest["passage_chars"]), int(manifest["max_tokens"]), manifest.get("prompt") == PROMPT
        )
        return Predictor(self.plan, self.tokenizer, self.heads, self.session, self._calibration, limits)

    # ---- sessions

    @property
    def exported(self) -> Path | None:
        """The exported graph of this proxy, or of the metamodel that it is; None if there is none."""
        file = self.path / FILES["onnx"] if self.path else self.network.exported
        return file if file and file.is_file() else None

    @property
    def session(self) -> Session:
        """The session that was set, else ONNX Runtime where the proxy was exported, else torch."""
        if self._session is None:
            self._session = OnnxSession(self.exported) if self.exported else self.torch_session()
        return self._session

    def set_session(self, session: Session | None) -> None:
        """Compute with this session from now on; None returns to the default."""
        self._session = session
        self.__dict__.pop("predictor", None)

    def to(self, device: DeviceName) -> Proxy:
        """Compute on this device from now on: on a GPU in bfloat16, on the CPU with the default session.

        Args:
            device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``mps``.

        Raises:
            ProxyError: There is no such device here.
        """
        kind = "cpu" if device == "cpu" else resolve_device(device).type
        if not (self._session and self.session.name.endswith(f":{kind}")):
            self.set_session(None if kind == "cpu" else self.torch_session(bf16=True, device=kind))
        return self

    def torch_session(self, *, bf16: bool = False, device: str = "cpu") -> TorchSession:
        """Make a torch session.

        Args:
            bf16: Compute in bfloat16. Default ``False``: float32.
            device: ``cpu`` (default), ``cuda`` or ``mps``.
        """
        return TorchSession(self.network.module, bf16=bf16, device=device)

    def bf16_session(self, threads: int | None = None) -> Session:
        """Make a torch session on the CPU in bfloat16.

        Args:
            threads: Number of cores; ``None`` (default) for all CPUs of this process.
        """
        from langchain_falconer.model.bf16_bert import BertSession

        if not BertSession.fits(self.network.config):
            return self.torch_session(bf16=True)
        return BertSession(self.network.tensors, self.network.config, threads)

    # ---- files

    def save(self, path: str | Path) -> Path:
        """Write the proxy as a folder, whole or not at all; an older proxy at ``path`` is replaced.

        Raises:
            ProxyError: There is something at ``path`` that is not a proxy, or it cannot be written.
        """
        from safetensors.numpy import save_file

        target, module = Path(path), self.network.module
        with replacing_folder(target) as folder:
            tensors = {
                k: v.detach().float().contiguous().numpy()
                for k, v in module.state_dict().items()
                if v.is_floating_point()
            }
            save_file(tensors, folder / FILES["weights"])
            save_file(self.heads.arrays() | pack(self.memory), folder / FILES["heads"])
            self.tokenizer.save(folder)
            module.encoder.config.save_pretrained(folder)
            if self.path and (self.path / FILES["onnx"]).is_file():
                shutil.copyfile(self.path / FILES["onnx"], folder / FILES["onnx"])
            _write_manifest(folder, self.manifest)
        self.path = target
        return target

    def export(self) -> float:
        """Write ``model.onnx`` beside the saved weights.

        Returns:
            The largest difference of a score to torch.

        Raises:
            ProxyError: The proxy was not saved yet, cannot be exported, or its export disagrees.
        """
        from langchain_falconer.model.onnx_export import export_onnx

        if self.path is None:
            raise ProxyError("a proxy is exported beside its saved weights; save it first, or use backend='torch'")
        partial = self.path / ".partial.onnx"
        try:
            with MODEL_INIT_LOCK:
                difference = export_onnx(self.network.module, partial, self.heads)
            partial.replace(self.path / FILES["onnx"])
        finally:
            partial.unlink(missing_ok=True)
        (self.path / FILES["int8"]).unlink(missing_ok=True)
        self.update_manifest(export={"format": "onnx", "largest_difference": difference})
        self.set_session(None)
        return difference

    def quantize(self) -> None:
        """Write ``model-int8.onnx`` beside ``model.onnx``: its weights in 8 bits, in blocks.

        Raises:
            ProxyError: The proxy was not exported yet, or cannot be quantised.
        """
        from langchain_falconer.model.quantization import quantize_blocks

        if self.path is None or not (self.path / FILES["onnx"]).is_file():
            raise ProxyError("only a saved and exported proxy can be quantised; save it, or use backend='onnx'")
        quantize_blocks(self.path / FILES["onnx"], self.path / FILES["int8"])

    def update_manifest(self, **facts: Any) -> None:
        """Add facts (quality, calibration, backend figures) to the manifest, on disk too where the proxy was saved."""
        self.manifest = {**self.manifest, **facts}
        self.__dict__.pop("predictor", None)  # the calibration may have changed
        if self.path:
            _write_manifest(self.path, self.manifest)

    # ---- other proxies

    @classmethod
    def zero_shot(cls, plan: Plan, *, base: str = DEFAULT_BASE, passage_chars: int = PASSAGE_CHARS) -> Proxy:
        """Make a proxy that answers a plan from the words of its questions alone; nothing is trained.

        Its accuracy is unknown until it is measured on annotations. A Cuckoo checkpoint (arXiv 2502.11275), by folder
        or hub name, takes one encoder pass per question.

        Args:
            plan: The plan.
            base: Metamodel or encoder, by folder or hub name. Default ``falconer-small``.
            passage_chars: Length of the passages into which texts are split, in characters. Default 1,200.

        Raises:
            ProxyError: The base cannot be loaded, or is a Cuckoo checkpoint and the plan has label steps.
        """
        if is_cuckoo(base):
            heads = repeat_head(cuckoo_head(base), HeadIndex.of(plan))
            module = load_model(base)
            manifest = new_manifest(plan, base, passage_chars, max_tokens(module.encoder.config.to_dict()))
            return cls({**manifest, "prompt": PROMPT}, cuckoo_tokenizer(base), heads, NetworkSource(loaded=module))
        encoder, limit = load_zero_shot_encoder(base)
        manifest = new_manifest(plan, base, passage_chars, limit)
        heads = encoder.heads(HeadIndex.of(plan))
        return cls(manifest, encoder.tokenizer, heads, NetworkSource(base=base), session=encoder.session)

    @classmethod
    def load(cls, path: str | Path) -> Proxy:
        """Load the proxy in a folder. Weights are safetensors; nothing in the folder is ever executed.

        Raises:
            ProxyError: There is no proxy, or it is broken or of another format.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(path)
        if not (folder / FILES["manifest"]).is_file():
            raise ProxyError(f"there is no proxy at {folder} (no manifest.json); train one or name another folder")
        try:
            manifest = read_manifest(folder)
            arrays = load_file(folder / FILES["heads"])
            heads = HeadWeights(**{name: a for name, a in arrays.items() if not name.startswith("memory.")})
            memory = unpack(manifest.get("memory", []), arrays)
            network = NetworkSource(folder=folder)
            proxy = cls(manifest, Tokenizer.read(folder), heads, network, memory=memory, path=folder)
            _check_heads(proxy.plan, heads)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, PlanError) as error:
            raise ProxyError(
                f"the proxy at {folder} is broken ({first_line(error)}); train it again", path=folder
            ) from error
        return proxy

    def recall(self, plan: Plan) -> Proxy:
        """Return a proxy for a plan that this one learned before its own (see :class:`Previous`).

        It answers with the weights as they are now; its scores are not calibrated.

        Raises:
            ProxyError: This proxy never learned the plan.
        """
        earlier = next((old for old in self.memory if old.plan.fingerprint == plan.fingerprint), None)
        if earlier is None:
            raise ProxyError(f"this proxy never learned the plan '{plan.instruction}'; train one for it")
        return self._with_heads(plan, earlier.weights)

    def with_plan(self, plan: Plan, steps: Mapping[str, str]) -> Proxy:
        """Return this proxy for another plan, each of whose steps is answered by one of its own.

        Args:
            plan: The other plan.
            steps: The id of the own step that answers, by the id of each step of ``plan``; both of the same kind, with
                the same label names.
        """
        index, own = HeadIndex.of(plan), HeadIndex.of(self.plan)
        label_rows = []
        for step in index.steps:
            if isinstance(step, LabelStep):
                answering = self.plan[steps[step.id]]
                assert isinstance(answering, LabelStep)
                first = own.label_rows[answering.id].start
                offsets = [answering.names.index(name) for name in step.names] or [0]
                label_rows += [first + offset for offset in offsets]
        span_rows = [own.span_row[steps[s.id]] for s in index.steps if isinstance(s, SpanStep)]
        calibration = self._calibration.renamed(steps)
        proxy = self._with_heads(plan, self.heads.take(span_rows, label_rows))
        prompt = {"prompt": self.manifest["prompt"]} if "prompt" in self.manifest else {}
        proxy.update_manifest(calibration=calibration.to_dict(), **prompt)
        return proxy

    def _with_heads(self, plan: Plan, heads: HeadWeights) -> Proxy:
        manifest = new_manifest(
            plan, self.manifest["base"], self.manifest["passage_chars"], self.manifest["max_tokens"]
        )
        return Proxy(manifest, self.tokenizer, heads, self.network, session=self.session)

    # ---- inside

    @property
    def _calibration(self) -> Calibration:
        return Calibration.read(self.manifest.get("calibration"))

    def _new_heads(self, steps: Sequence[LabelStep | SpanStep]) -> HeadWeights:
        """Generate query heads for questions that the proxy was not trained on."""
        index = HeadIndex.of(steps)
        if self.manifest.get("prompt") == PROMPT:
            return repeat_head(self.heads, index)
        return ZeroShotEncoder(self.session, self.tokenizer, self.network.head_generator).heads(index)


def _same_question(plan: Plan, step: LabelStep | SpanStep) -> LabelStep | SpanStep | None:
    """Return the step of a plan with exactly the same question."""
    return next((own for own in plan.steps if own.fingerprint == step.fingerprint), None)


def _check_heads(plan: Plan, heads: HeadWeights) -> None:
    """Raise ``ValueError`` where the heads do not fit the plan."""
    index = HeadIndex.of(plan)
    if (len(heads.span_bias), len(heads.label_bias)) != (3 * len(index.span_texts), len(index.label_texts)):
        raise ValueError("its query heads are not those of its plan")


def confidence_of(answers: Answers) -> float:
    """Return the confidence in the answers about a text, in [0, 1]: that of the least certain one, no-span included."""
    return min([1.0, *_all_scores(answers), *answers.none_prob.values()])


def _all_scores(answers: Answers | Span) -> list[float]:
    own = [label.score for label in answers.labels.values()]
    for spans in answers.spans.values():
        for span in spans:
            own += [span.score, *_all_scores(span)]
    return own


class Embedder:
    """Sentence vectors of a base, for the similarity of texts in sampling and of questions in the registry.

    Args:
        base: A metamodel or encoder.
        max_tokens: Tokens of a text that count, its first ones. Default 256.
    """

    def __init__(self, base: str = DEFAULT_BASE, max_tokens: int = MAX_TOKENS) -> None:
        self.base = base
        self.max_tokens = max_tokens

    @cached_property
    def encoder(self) -> ZeroShotEncoder:
        """The encoder of texts and questions."""
        return load_zero_shot_encoder(self.base)[0]

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self.encoder.generator.width

    @property
    def fingerprint(self) -> str:
        """A digest of what the vectors depend on: the base, its weights where they are in a folder, the tokens."""
        return digest(self.base, file_digest(Path(base_folder(self.base)) / FILES["weights"]), self.max_tokens)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors (n, d), float32."""
        return self.encoder.embed(texts, self.max_tokens)


def new_manifest(plan: Plan, base: str, passage_chars: int, limit: int) -> dict[str, Any]:
    """Return the manifest of a proxy before training."""
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
