"""Benchmarks that users can run, as ``falconer benchmark NAME``.

Each returns a :class:`BenchmarkTable`: JSON data.
"""

from langchain_falconer.benchmarks.harness import Trial
from langchain_falconer.benchmarks.table import BenchmarkTable

__all__ = ["BenchmarkTable", "Trial"]
