"""The demo: 2,225 real BBC articles, and answers recorded from a real LLM for those who have none at hand."""

from langchain_falconer.demo.recording import Recording, articles, bbc_articles

__all__ = ["Recording", "articles", "bbc_articles"]
