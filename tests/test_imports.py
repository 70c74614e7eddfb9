"""What an import costs and gives: the package stays light, and every name that it promises is there."""

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import langchain_falconer

HEAVY = {"faiss", "langgraph", "onnxruntime", "optimum", "pandas", "pyarrow", "torch", "transformers"}
PACKAGES = [
    f"langchain_falconer.{module.name}"
    for module in pkgutil.iter_modules(langchain_falconer.__path__)
    if not module.name.startswith("_")
]


@pytest.mark.parametrize(
    "module",
    ["langchain_falconer", "langchain_falconer.plan", "langchain_falconer.cli", "langchain_falconer.evaluate"],
)
def test_import_is_light(module: str) -> None:
    loaded = _loaded_by(f"import {module}")
    assert module in loaded
    assert not HEAVY & loaded


def test_a_heavy_name_loads_what_it_needs_when_it_is_used() -> None:
    assert "langgraph" in _loaded_by("from langchain_falconer import create_falconer_graph")


def test_a_run_without_an_llm_needs_no_langgraph() -> None:
    assert "langgraph" not in _loaded_by("from langchain_falconer.graph import Home, Results")


def test_every_public_name_resolves_and_keeps_its_name() -> None:
    for name in langchain_falconer.__all__:
        public = getattr(langchain_falconer, name)
        assert getattr(public, "__name__", name) in (name, "Callable")  # a type alias has none, or this


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Falcon"):
        langchain_falconer.Falcon  # noqa: B018


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_package_resolves(package: str) -> None:
    module = importlib.import_module(package)
    assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))


def _loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))
