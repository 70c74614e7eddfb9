"""The training: a proxy that is measured, then the one that runs; either is found where it was trained before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.annotate import Annotation, trusted_annotations
from langchain_falconer.annotate.class_balance import rare_label_warnings
from langchain_falconer.errors import ProxyError
from langchain_falconer.evaluate import Quality, evaluate_plan
from langchain_falconer.files import digest
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.model import Embedder, Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.report import TrainingSummary
from langchain_falconer.settings import TrainSettings
from langchain_falconer.train import calibrate, train_proxy, train_student

_READY = "ready"  # stands in the folder of a proxy that a run has finished
_MIN_TRUSTED = 10
"""Trusted answers from which on proxies are compared on these alone."""


@dataclass(frozen=True)
class _TrainingSet:
    """The annotations of a run, and texts without annotations."""

    plan: Plan
    train: list[Annotation]
    development: list[Annotation]
    """Annotations for every choice."""
    test: list[Annotation]
    """Annotations that nothing but the quality is measured on."""
    trusted: list[Annotation]
    """Development answers that a person gave, or that the LLM gave twice."""
    unlabelled: list[str]
    unseen: list[str]
    """Texts that nothing which training starts from may have seen."""

    @property
    def annotations(self) -> list[Annotation]:
        """All annotations."""
        return [*self.train, *self.development, *self.test]

    @property
    def reference(self) -> list[Annotation]:
        """Development answers that proxies are compared on: the trusted ones, where there are enough of them.

        A proxy that was taught wrongly agrees better with its teacher than the untrained one, and is worse.
        """
        return self.trusted if len(self.trusted) >= _MIN_TRUSTED else self.development


def train(state: FalconerState, context: NodeContext) -> Update:
    """Train a proxy that is measured; once it was, the proxy that runs, which learns from the held-out texts too."""
    plan, sample = context.plan(state), context.sample(state)
    messages = list(state.get("messages", []))
    with context.timed(state, "train") as seconds, context.store() as store:
        taught = [*sample.train, *context.corrected_texts(state)]
        annotated, development, test = (
            context.annotations(store, state, texts) for texts in (taught, sample.development, sample.test)
        )
        unseen = [*sample.held_out, *context.certification_sample(state).values()]
        trusted = trusted_annotations(store, plan, sample.development, context.stored_source(state))
        unlabelled = sample.pool[: context.settings.unlabelled]
        data = _TrainingSet(plan, annotated, development, test, trusted, unlabelled, unseen)
        if was_measured(state):
            path = context.home.registry.path(_name(data, context))
            if not (path / _READY).is_file():
                _train_on_all(data, Path(state["proxy"] or ""), path, context, messages)
            messages += rare_label_warnings(plan, data.annotations)
        else:
            path = context.folder(state) / "measured" / _name(data, context)
            if not (path / _READY).is_file():
                _train(data, path, context, messages)
    training = TrainingSummary.of(Proxy.load(path).manifest)
    return {"proxy": str(path), "training": training.model_dump(mode="json"), "messages": messages, "seconds": seconds}


def was_measured(state: FalconerState) -> bool:
    """Return whether the last proxy was measured and is good enough, so that no more texts are annotated."""
    return state["round"] > 0 and not state.get("needs_annotation")


def _train(data: _TrainingSet, path: Path, context: NodeContext, messages: list[str]) -> None:
    """Train the proxy that is measured: on the training texts, with every choice made on the development texts."""
    settings = context.settings
    start = _start(data, context)
    proxy = train_proxy(
        data.plan,
        data.train,
        base=start,
        development=data.development,
        settings=settings.train,
        passage_chars=settings.passage_chars,
        on_step=_reporter(context),
    )
    messages += _early_stopping_message(proxy.manifest["training"]["selected_after"])
    proxy = _keep_better(data, proxy, start, context, messages)
    calibrate(proxy, data.development, settings.metrics)
    proxy.save(path)
    if start != settings.base:
        before = context.home.registry.entry(Path(start).name).manifest
        seen = sorted({*before.get("seen", ()), *proxy.manifest.get("seen", ())})
        proxy.update_manifest(base=settings.base, started_from=Path(start).name, seen=seen)
    (path / _READY).touch()


def _reporter(context: NodeContext) -> Callable[[int, int, float], None]:
    return lambda n, total, loss: context.emit({"done": n, "total": total, "loss": round(loss, 4)})


def _train_on_all(
    data: _TrainingSet, measured_path: Path, path: Path, context: NodeContext, messages: list[str]
) -> None:
    """Train the proxy that runs: the measured one teaches a network that learns from all annotations.

    What was chosen on development texts stays chosen: start, number of steps, calibration, thresholds. Where the
    untrained base was the better one, or no time is left, the measured proxy runs.
    """
    proxy = before = Proxy.load(measured_path)
    training, settings = before.manifest["training"], _time_left(before, context.settings.train)
    if settings is None:
        messages.append("no time was left to learn from the held-out texts too; more of it (--train-minutes) may help")
    elif not training.get("is_base"):
        proxy = train_student(
            before,
            data.annotations,
            base=start_of(before, context),
            unlabelled=data.unlabelled,
            settings=settings,
            on_step=_reporter(context),
        )
        kept = ("base", "started_from", "calibration", "operating_points", "quality", "annotator")
        facts = {name: before.manifest[name] for name in kept if name in before.manifest}
        seen = sorted({*before.manifest["seen"], *proxy.manifest["seen"]})
        proxy.update_manifest(**facts, seen=seen, training={**proxy.manifest["training"], "on_all": True})
        messages.append(
            f"quality was measured on the proxy that learned from {len(data.train)} of the {len(data.annotations)} "
            "annotations; the one that runs then learned from all of them"
        )
    proxy.save(path)
    messages += _time_limit_message(proxy.manifest["training"]["planned"], context.settings.train.max_minutes)
    try:
        proxy.export()
    except ProxyError as error:
        messages.append(str(error))
    (path / _READY).touch()


def _time_left(before: Proxy, settings: TrainSettings) -> TrainSettings | None:
    """Return the settings with the minutes that are left; None where these are too few to train again."""
    if settings.max_minutes is None:
        return settings
    taken = before.manifest["training"]["seconds"] / 60
    left = settings.max_minutes - taken
    return settings.model_copy(update={"max_minutes": left}) if left > taken / 2 else None


def _start(data: _TrainingSet, context: NodeContext) -> str:
    """Return what training starts from: the base, or a proxy of this home that was trained on similar questions.

    The proxy is taken only where, untrained for this plan, it agrees better with development answers than the base, and
    where its own training saw none of the texts that must stay unseen.
    """
    base = context.settings.base
    if not data.development or context.settings.train.layers:
        return base
    similar = [
        entry
        for entry in context.home.registry.most_similar(data.plan, Embedder(base))
        if entry.manifest["base"] == base and (entry.path / _READY).is_file() and not entry.trained_on(data.unseen)
    ]
    if not similar:
        return base
    proxy = str(similar[0].path)
    return proxy if _zero_shot_score(data, proxy, context) > _zero_shot_score(data, base, context) else base


def start_of(proxy: Proxy, context: NodeContext) -> str:
    """Return what the training of a proxy of this home started from."""
    started_from = proxy.manifest.get("started_from")
    return str(context.home.registry.path(started_from)) if started_from else context.settings.base


def _zero_shot_score(data: _TrainingSet, base: str, context: NodeContext) -> float:
    proxy = zero_shot(data.plan, base, context)
    return _agreement(data, proxy) if proxy else 0.0


def zero_shot(plan: Plan, base: str, context: NodeContext) -> Proxy | None:
    """Return a base before any training; None where it answers nothing yet (a Cuckoo checkpoint knows no labels)."""
    try:
        return Proxy.zero_shot(plan, base=base, passage_chars=context.settings.passage_chars)
    except ProxyError:
        return None


def _agreement(data: _TrainingSet, proxy: Proxy) -> float:
    quality = measured(data.plan, proxy, data.reference)
    return quality.agreement.value if quality else 0.0


def _keep_better(data: _TrainingSet, proxy: Proxy, start: str, context: NodeContext, messages: list[str]) -> Proxy:
    """Return the trained proxy; or the one it started from, where that agrees better with the reference answers."""
    base = zero_shot(data.plan, start, context)
    if base is None:
        return proxy
    after, before = _agreement(data, proxy), _agreement(data, base)
    if before <= after:
        return proxy
    on, fix = "", "annotate more texts, or word the question more clearly"
    if data.reference is not data.development:
        on = f" on {_in_words(data.reference)}"
        fix = "name a better LLM, correct its answers, or word the question more clearly"
    messages.append(
        f"training made the proxy worse{on} ({before:.0%} agreement before, {after:.0%} after), so the untrained one "
        f"is used; {fix}"
    )
    base.update_manifest(training={**proxy.manifest["training"], "is_base": True}, data=proxy.manifest["data"])
    return base


def _in_words(trusted: list[Annotation]) -> str:
    corrected = sum(bool(annotation.corrected) for annotation in trusted)
    kinds = [
        f"{n} development texts that {what}"
        for n, what in ((corrected, "a person answered"), (len(trusted) - corrected, "the LLM answered twice alike"))
        if n
    ]
    return " and ".join(kinds)


def measured(plan: Plan, proxy: Proxy, annotations: list[Annotation], level: float = 0.95) -> Quality | None:
    """Return how well a proxy agrees with annotations; None without annotations."""
    if not annotations:
        return None
    texts = [a.text for a in annotations]
    predicted = proxy.answers(texts, apply_conditions=False)
    return evaluate_plan(plan, [a.answers for a in annotations], predicted, level=level, texts=texts)


def _early_stopping_message(selected_after: list[float]) -> list[str]:
    if all(share == 1 for share in selected_after):
        return []
    shares = " and ".join(f"{share:.0%}" for share in selected_after)
    return [
        f"training was stopped early: the network after {shares} of the steps agrees better with the development texts "
        "than the last one"
    ]


def _time_limit_message(planned: list[float], minutes: float | None) -> list[str]:
    if all(share == 1 for share in planned):
        return []
    shares = " and ".join(f"{share:.0%}" for share in planned)
    return [
        f"training took {shares} of its steps in the {minutes:g} minutes that it may take; more of them "
        "(--train-minutes) may make the proxy better"
    ]


def _name(data: _TrainingSet, context: NodeContext) -> str:
    """The name of a proxy: a digest of everything that it is made from, and of what it must not have seen."""
    settings = context.settings
    annotations = [(a.text, repr(a.answers)) for a in data.annotations]
    metrics = {step: str(metric) for step, metric in settings.metrics.items()}
    made_from = digest(
        annotations,
        len(data.train),
        len(data.development),
        [(a.text, repr(a.answers)) for a in data.trusted],
        data.unlabelled,
        data.unseen,
        settings.train.model_dump(exclude={"device"}),
        settings.base,
        settings.passage_chars,
        metrics,
    )
    return f"{data.plan.fingerprint}-{made_from[:8]}"
