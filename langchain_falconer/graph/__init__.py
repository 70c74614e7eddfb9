"""Falconer as a LangGraph state machine, and the home folder that it keeps its work in.

LangGraph loads when something of the state machine is first used; home and results need none of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
