"""The types that a caller reads: no ``dict[str, Any]`` in a public signature, and a name for what can be mined."""

import ast
import typing
from pathlib import Path

import pytest

import langchain_falconer

ROOT = Path(langchain_falconer.__file__).parent
COVERED = (
    "annotate",
    "benchmarks",
    "cli",
    "corpus",
    "demo",
    "errors.py",
    "evaluate",
    "falconer.py",
    "files.py",
    "gguf.py",
    "graph",
    "llm",
    "plan",
    "prompts.py",
    "records.py",
    "registry",
    "report",
    "settings.py",
    "tools",
    "tracing.py",
    "urls.py",
)


def annotations(function):
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return [*(argument.annotation for argument in named if argument), function.returns]


def public_types(body):
    """The annotations of public functions, methods and fields, and the values of public names (aliases)."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if not node.name.startswith("_") or node.name in ("__init__", "__call__"):
                yield node, [part for part in annotations(node) if part]
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_types(node.body)
        elif isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            yield node, [node.annotation]
        elif isinstance(node, ast.Assign) and not ast.unparse(node.targets[0]).startswith("_"):
            yield node, [node.value]


def untyped(source):
    return [
        node.lineno
        for node, parts in public_types(ast.parse(source).body)
        if any("dict[str, Any]" in ast.unparse(part) for part in parts)
    ]


@pytest.mark.parametrize("package", COVERED)
def test_no_public_signature_holds_an_untyped_dictionary(package):
    files = [ROOT / package] if package.endswith(".py") else sorted((ROOT / package).rglob("*.py"))
    assert files
    assert {str(file.relative_to(ROOT)): lines for file in files if (lines := untyped(file.read_text("utf-8")))} == {}


def test_an_untyped_dictionary_is_found_wherever_a_caller_reads_it():
    source = """
Alias = dict[str, Any]
def public(a: int, *, b: list[dict[str, Any]]) -> None: ...
def _private(a: dict[str, Any]) -> None: ...
class Public:
    field: dict[str, Any] | None
    def method(self) -> dict[str, Any]:
        local: dict[str, Any] = {}
"""
    assert untyped(source) == [2, 3, 6, 7]


@pytest.mark.parametrize("method", ["mine", "ask", "estimate"])
def test_what_can_be_mined_has_a_public_type(method):
    hints = typing.get_type_hints(getattr(langchain_falconer.Falconer, method), vars(langchain_falconer.falconer))
    assert hints["corpus"] == langchain_falconer.CorpusLike | None
    assert str in typing.get_args(langchain_falconer.CorpusLike)


INSIDE = {
    "AnnotationStore", "Budget", "Registry", "Results", "Workspace",  # parts of a Home
    "HeadWeights", "NetworkSource", "Predictor", "Session", "TaskHead", "Tokenizer", "TorchSession",  # of a Proxy
    "Failure",  # of an LLM
}  # fmt: skip


def named_types(annotation):
    """The classes of this package that an annotation names."""
    for part in annotation if isinstance(annotation, list | tuple) else typing.get_args(annotation):
        yield from named_types(part)
    if isinstance(annotation, type) and annotation.__module__.startswith("langchain_falconer"):
        yield annotation.__name__


def hints(thing):
    try:
        return typing.get_type_hints(thing).values()
    except (NameError, TypeError):  # a name for type checkers alone
        return ()


def test_every_class_of_a_public_signature_has_a_public_name():
    needed = set()
    for name in langchain_falconer.__all__:
        public = getattr(langchain_falconer, name)
        members = [m for key, m in vars(public).items() if not key.startswith("_")] if isinstance(public, type) else []
        for thing in (public, *(getattr(member, "fget", member) for member in members)):
            needed |= {found for hint in hints(thing) for found in named_types(hint) if not found.startswith("_")}
    assert "RunSummary" in needed
    assert needed - INSIDE <= set(langchain_falconer.__all__)
