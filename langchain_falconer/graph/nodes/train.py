"""The training: a proxy for exactly these annotations, found in the registry or trained now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from langchain_falconer.annotate import Annotation
from langchain_falconer.annotate.class_balance import rare_label_warnings
from langchain_falconer.errors import ProxyError
from langchain_falconer.evaluate import Quality, evaluate_plan
from langchain_falconer.files import digest
from langchain_falconer.graph.context import NodeContext, Update
from langchain_falconer.graph.state import FalconerState
from langchain_falconer.model import Embedder, Proxy
from langchain_falconer.plan import Plan
from langchain_falconer.report import TrainingSummary
from langchain_falconer.train import calibrate, train_proxy

_READY = "ready"  # stands in the folder of a proxy that a run has finished


@dataclass(frozen=True)
class _TrainingSet:
    """Annotations to train on, development annotations for every choice, and texts without annotations."""

    plan: Plan
    train: list[Annotation]
    development: list[Annotation]
    unlabelled: list[str]
    unseen: list[str]
    """Texts that nothing which training starts from may have seen."""


def train(state: FalconerState, context: NodeContext) -> Update:
    """Train the proxy, unless the registry has one of the very same annotations and settings."""
    plan, sample = context.plan(state), context.sample(state)
    messages = list(state.get("messages", []))
    with context.timed(state, "train") as seconds, context.store() as store:
        annotated = context.annotations(store, state, sample.train)
        development = context.annotations(store, state, sample.development)
        unseen = [*sample.held_out, *context.certification_sample(state).values()]
        data = _TrainingSet(plan, annotated, development, sample.pool[: context.settings.unlabelled], unseen)
        path = context.home.registry.path(_name(data, context))
        if not (path / _READY).is_file():
            _train(data, path, context, messages)
    manifest = Proxy.load(path).manifest
    training = TrainingSummary.of(manifest)
    messages += rare_label_warnings(plan, annotated)
    return {"proxy": str(path), "training": training.model_dump(mode="json"), "messages": messages, "seconds": seconds}


def _train(data: _TrainingSet, path: Path, context: NodeContext, messages: list[str]) -> None:
    settings = context.settings
    start = _start(data, context)
    proxy = train_proxy(
        data.plan,
        data.train,
        base=start,
        unlabelled=data.unlabelled,
        development=data.development,
        settings=settings.train,
        passage_chars=settings.passage_chars,
        on_step=lambda n, total, loss: context.emit({"done": n, "total": total, "loss": round(loss, 4)}),
    )
    messages += _early_stopping_message(proxy.manifest["training"]["selected_after"])
    messages += _time_limit_message(proxy.manifest["training"]["planned"], settings.train.max_minutes)
    proxy = _keep_better(data, proxy, start, context, messages)
    calibrate(proxy, data.development, settings.metrics)
    proxy.save(path)
    if start != settings.base:
        before = context.home.registry.entry(Path(start).name).manifest
        seen = sorted({*before.get("seen", ()), *proxy.manifest.get("seen", ())})
        proxy.update_manifest(base=settings.base, started_from=Path(start).name, seen=seen)
    try:
        proxy.export()
    except ProxyError as error:
        messages.append(str(error))
    (path / _READY).touch()


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


def _zero_shot_score(data: _TrainingSet, base: str, context: NodeContext) -> float:
    proxy = _zero_shot(data.plan, base, context)
    return _agreement(data, proxy) if proxy else 0.0


def _zero_shot(plan: Plan, base: str, context: NodeContext) -> Proxy | None:
    """A base before any training; None where it answers nothing yet (a Cuckoo checkpoint knows no labels)."""
    try:
        return Proxy.zero_shot(plan, base=base, passage_chars=context.settings.passage_chars)
    except ProxyError:
        return None


def _agreement(data: _TrainingSet, proxy: Proxy) -> float:
    quality = measured(data.plan, proxy, data.development)
    return quality.agreement.value if quality else 0.0


def _keep_better(data: _TrainingSet, proxy: Proxy, start: str, context: NodeContext, messages: list[str]) -> Proxy:
    """Return the trained proxy; or the one it started from, where that agrees better with development answers."""
    base = _zero_shot(data.plan, start, context)
    if base is None:
        return proxy
    after, before = _agreement(data, proxy), _agreement(data, base)
    if before <= after:
        return proxy
    messages.append(
        f"training made the proxy worse ({before:.0%} agreement before, {after:.0%} after), so the untrained one is "
        "used; annotate more texts, or word the question more clearly"
    )
    base.update_manifest(training={**proxy.manifest["training"], "is_base": True}, data=proxy.manifest["data"])
    return base


def measured(plan: Plan, proxy: Proxy, annotations: list[Annotation], level: float = 0.95) -> Quality | None:
    """Return how well a proxy agrees with annotations; None without annotations."""
    if not annotations:
        return None
    predicted = proxy.answers([a.text for a in annotations], apply_conditions=False)
    return evaluate_plan(plan, [a.answers for a in annotations], predicted, level=level)


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
    annotations = [(a.text, repr(a.answers)) for a in (*data.train, *data.development)]
    metrics = {step: str(metric) for step, metric in settings.metrics.items()}
    made_from = digest(
        annotations,
        len(data.train),
        data.unlabelled,
        data.unseen,
        settings.train.model_dump(exclude={"device"}),
        settings.base,
        settings.passage_chars,
        metrics,
    )
    return f"{data.plan.fingerprint}-{made_from[:8]}"
