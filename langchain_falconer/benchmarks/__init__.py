"""Benchmarks that users can run, as ``falconer benchmark NAME``.

Each returns ``{"title", "columns", "rows", "verdict"}`` and whatever else is worth keeping, as JSON data.
"""

from langchain_falconer.benchmarks.harness import Trial

__all__ = ["Trial"]
