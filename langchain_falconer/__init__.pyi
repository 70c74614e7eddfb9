"""Names of the package, imported when they are first used; this file is what `__init__.py` loads them by."""

from .annotate import Annotation as Annotation
from .annotate import CallCheck as CallCheck
from .annotate import LLMCheck as LLMCheck
from .annotate import check_llm as check_llm
from .annotate import read_annotations as read_annotations
from .annotate import write_annotations as write_annotations
from .corpus import BadRow as BadRow
from .corpus import Document as Document
from .corpus import IngestReport as IngestReport
from .corpus import Place as Place
from .corpus import StoredCorpus as StoredCorpus
from .corpus import Url as Url
from .errors import AnnotationError as AnnotationError
from .errors import BudgetError as BudgetError
from .errors import CorpusError as CorpusError
from .errors import FalconerError as FalconerError
from .errors import LLMError as LLMError
from .errors import PlanError as PlanError
from .errors import PlanIssue as PlanIssue
from .errors import PlannerError as PlannerError
from .errors import ProxyError as ProxyError
from .errors import RunError as RunError
from .errors import SettingsError as SettingsError
from .evaluate import Certificate as Certificate
from .evaluate import Proportion as Proportion
from .evaluate import Quality as Quality
from .evaluate import StepQuality as StepQuality
from .execute import BackendChoice as BackendChoice
from .execute import Guarantee as Guarantee
from .execute import RowCounts as RowCounts
from .falconer import AsyncProgressCallback as AsyncProgressCallback
from .falconer import AsyncReviewer as AsyncReviewer
from .falconer import CorpusLike as CorpusLike
from .falconer import Falconer as Falconer
from .falconer import MiningRequest as MiningRequest
from .falconer import MiningResult as MiningResult
from .falconer import ProgressCallback as ProgressCallback
from .falconer import Reviewer as Reviewer
from .graph import AskOptions as AskOptions
from .graph import FalconerContext as FalconerContext
from .graph import Home as Home
from .graph import ProgressEvent as ProgressEvent
from .graph import Review as Review
from .graph import ReviewRequest as ReviewRequest
from .graph import build_falconer as build_falconer
from .graph import create_falconer_graph as create_falconer_graph
from .llm import LLM as LLM
from .llm import Usage as Usage
from .model import Proxy as Proxy
from .plan import All as All
from .plan import Any_ as Any_
from .plan import Equals as Equals
from .plan import Exists as Exists
from .plan import In as In
from .plan import LabelOption as LabelOption
from .plan import LabelStep as LabelStep
from .plan import Not as Not
from .plan import OptionData as OptionData
from .plan import Plan as Plan
from .plan import PlanData as PlanData
from .plan import Planner as Planner
from .plan import SpanStep as SpanStep
from .plan import StepData as StepData
from .records import Answers as Answers
from .records import Label as Label
from .records import Record as Record
from .records import ResultRow as ResultRow
from .records import Span as Span
from .report import Cost as Cost
from .report import Decision as Decision
from .report import Findings as Findings
from .report import QualityTarget as QualityTarget
from .report import RunSummary as RunSummary
from .report import Strategy as Strategy
from .settings import AnnotateSettings as AnnotateSettings
from .settings import BudgetSettings as BudgetSettings
from .settings import CorpusSettings as CorpusSettings
from .settings import LLMSettings as LLMSettings
from .settings import Metric as Metric
from .settings import MineSettings as MineSettings
from .settings import RunSettings as RunSettings
from .settings import Targets as Targets
from .settings import TrainSettings as TrainSettings
from .settings import Trust as Trust
from .tools import CorpusMiddleware as CorpusMiddleware
from .tools import CorpusRetriever as CorpusRetriever
from .tools import FalconerToolkit as FalconerToolkit
from .tools import create_falconer_subagent as create_falconer_subagent
from .tools import create_mcp_server as create_mcp_server
from .train import Previous as Previous
from .train import PreviousTask as PreviousTask
from .train import train_proxy as train_proxy

__version__: str

__all__ = [
    "LLM",
    "All",
    "AnnotateSettings",
    "Annotation",
    "AnnotationError",
    "Answers",
    "Any_",
    "AskOptions",
    "BackendChoice",
    "BadRow",
    "BudgetError",
    "BudgetSettings",
    "Certificate",
    "CorpusError",
    "CorpusLike",
    "CorpusMiddleware",
    "CorpusRetriever",
    "CorpusSettings",
    "Cost",
    "Decision",
    "Document",
    "Equals",
    "Exists",
    "Falconer",
    "FalconerContext",
    "FalconerError",
    "FalconerToolkit",
    "Findings",
    "Guarantee",
    "Home",
    "In",
    "IngestReport",
    "LLMError",
    "LLMSettings",
    "Label",
    "LabelOption",
    "LabelStep",
    "Metric",
    "MineSettings",
    "MiningResult",
    "Not",
    "OptionData",
    "Place",
    "Plan",
    "PlanData",
    "PlanError",
    "PlanIssue",
    "Planner",
    "PlannerError",
    "Previous",
    "PreviousTask",
    "ProgressCallback",
    "ProgressEvent",
    "Proportion",
    "Proxy",
    "ProxyError",
    "Quality",
    "QualityTarget",
    "Record",
    "ResultRow",
    "Review",
    "ReviewRequest",
    "Reviewer",
    "RowCounts",
    "RunError",
    "RunSettings",
    "RunSummary",
    "SettingsError",
    "Span",
    "SpanStep",
    "StepData",
    "StepQuality",
    "StoredCorpus",
    "Strategy",
    "Targets",
    "TrainSettings",
    "Trust",
    "Url",
    "Usage",
    "build_falconer",
    "create_falconer_graph",
    "create_falconer_subagent",
    "create_mcp_server",
    "read_annotations",
    "train_proxy",
    "write_annotations",
]
