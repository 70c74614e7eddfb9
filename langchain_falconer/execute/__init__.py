"""The execute room: the fastest backend that decides alike, and the run over a corpus that survives anything."""

from langchain_falconer.execute._backends import (
    AGREEMENT,
    BACKENDS,
    Backend,
    BackendChoice,
    Candidate,
    OpenVinoSession,
    choose_backend,
    decisions_alike,
)
from langchain_falconer.execute._cascade import Cascade, Guarantee
from langchain_falconer.execute._output import check_output, parquet_schema, read_rows, write_output
from langchain_falconer.execute._run import Run, RunReport, RunSettings
from langchain_falconer.execute._tally import Tally
from langchain_falconer.execute._targets import Targets

__all__ = [
    "AGREEMENT",
    "BACKENDS",
    "Backend",
    "BackendChoice",
    "Candidate",
    "Cascade",
    "Guarantee",
    "OpenVinoSession",
    "Run",
    "RunReport",
    "RunSettings",
    "Tally",
    "Targets",
    "check_output",
    "choose_backend",
    "decisions_alike",
    "parquet_schema",
    "read_rows",
    "write_output",
]
