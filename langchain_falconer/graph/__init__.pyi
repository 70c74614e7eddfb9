"""Names of the package, imported when they are first used."""

from .builder import FalconerContext as FalconerContext
from .builder import build_falconer as build_falconer
from .builder import create_falconer_graph as create_falconer_graph
from .context import NodeContext as NodeContext
from .home import Home as Home
from .home import default_home as default_home
from .plan_cache import cached_plan as cached_plan
from .plan_cache import planning_budget_id as planning_budget_id
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
    "NodeContext",
    "ProgressEvent",
    "Results",
    "Review",
    "ReviewRequest",
    "Router",
    "build_falconer",
    "cached_plan",
    "create_falconer_graph",
    "default_home",
    "planning_budget_id",
]
