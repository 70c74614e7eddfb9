"""The demo: 2,225 real BBC articles, and answers recorded from a real LLM for users without one."""

from langchain_falconer.demo.recording import Recording, articles, bbc_articles

__all__ = ["Recording", "articles", "bbc_articles"]
