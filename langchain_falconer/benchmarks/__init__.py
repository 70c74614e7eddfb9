"""Benchmarks that users can run: ``falconer benchmark planning | labels | guarantee | steps | …``.

Each returns ``{"title", "columns", "rows", "verdict"}`` and whatever else is worth keeping, as JSON data.
"""
