"""Falconer: an LLM's judgement over a large corpus at a small encoder's price (arXiv 2510.01427).

``import langchain_falconer`` is light: torch, transformers, faiss and langgraph load when they are first used.
"""

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = version("langchain-falconer")
