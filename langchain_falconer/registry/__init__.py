"""Registry of trained proxies: listing, matching to plans, export and import."""

from langchain_falconer.registry.catalog import Registry
from langchain_falconer.registry.entry import Entry
from langchain_falconer.registry.matching import ModelMatch, exact_matches, similar_matches

__all__ = ["Entry", "ModelMatch", "Registry", "exact_matches", "similar_matches"]
