"""The route room: the cheapest way to answer a question about a corpus, and the results that were given before."""

from langchain_falconer.route._cost import Costs, Decision, Trust, Way
from langchain_falconer.route._findings import quoted
from langchain_falconer.route._results import Results
from langchain_falconer.route._route import Route
from langchain_falconer.route._source import Source

__all__ = [
    "Costs",
    "Decision",
    "Results",
    "Route",
    "Source",
    "Trust",
    "Way",
    "quoted",
]
