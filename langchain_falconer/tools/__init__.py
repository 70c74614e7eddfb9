"""Agent tools, for ``create_agent``, ``deepagents``, MCP and every other LangChain host.

An agent names a corpus; no text has to pass through its context. Content is a compact JSON summary within a token
budget, with a result id to read on from; the artifact is the same as data.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
