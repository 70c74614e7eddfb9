"""Names of the package, imported when they are first used."""

from .builder import FalconerContext as FalconerContext
from .builder import build_falconer as build_falconer
from .builder import create_falconer_graph as create_falconer_graph
from .context import NodeContext as NodeContext
from .home import Home as Home
from .jobs import Job as Job
from .results import Results as Results
from .routing import Router as Router
from .state import AskOptions as AskOptions
from .state import FalconerInput as FalconerInput
from .state import FalconerOutput as FalconerOutput
from .state import FalconerState as FalconerState
from .state import ProgressEvent as ProgressEvent
from .state import Review as Review
from .state import ReviewRequest as ReviewRequest

__all__ = [
    "AskOptions",
    "FalconerContext",
    "FalconerInput",
    "FalconerOutput",
    "FalconerState",
    "Home",
    "Job",
    "NodeContext",
    "ProgressEvent",
    "Results",
    "Review",
    "ReviewRequest",
    "Router",
    "build_falconer",
    "create_falconer_graph",
]
