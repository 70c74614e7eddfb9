"""Names of the package, imported when they are first used; this file is what `__init__.py` loads them by."""

from .annotate import Accuracy as Accuracy
from .annotate import Annotation as Annotation
from .annotate import CallCheck as CallCheck
from .annotate import LLMCheck as LLMCheck
from .annotate import Suspect as Suspect
from .annotate import check_llm as check_llm
from .annotate import read_annotations as read_annotations
from .annotate import write_annotations as write_annotations
from .corpus import BadRow as BadRow
from .corpus import CorpusData as CorpusData
from .corpus import Document as Document
from .corpus import IngestReport as IngestReport
from .corpus import Partition as Partition
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
from .evaluate import CurvePoint as CurvePoint
from .evaluate import Estimate as Estimate
from .evaluate import F1Scores as F1Scores
from .evaluate import Forecast as Forecast
from .evaluate import LabelScores as LabelScores
from .evaluate import LearningCurve as LearningCurve
from .evaluate import Mistake as Mistake
from .evaluate import OperatingPoint as OperatingPoint
from .evaluate import Proportion as Proportion
from .evaluate import Quality as Quality
from .evaluate import Reliability as Reliability
from .evaluate import ReliabilityBin as ReliabilityBin
from .evaluate import Slice as Slice
from .evaluate import StepQuality as StepQuality
from .execute import BackendChoice as BackendChoice
from .execute import Candidate as Candidate
from .execute import Guarantee as Guarantee
from .execute import RowCounts as RowCounts
from .execute import SpanCounts as SpanCounts
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
from .llm import Meter as Meter
from .llm import Price as Price
from .llm import Reply as Reply
from .llm import Usage as Usage
from .model import Proxy as Proxy
from .model import Scores as Scores
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
from .prompts import Prompts as Prompts
from .prompts import SpanExample as SpanExample
from .records import Answers as Answers
from .records import Label as Label
from .records import LabelData as LabelData
from .records import Record as Record
from .records import ResultRow as ResultRow
from .records import Span as Span
from .records import SpanData as SpanData
from .report import AnnotationSummary as AnnotationSummary
from .report import BreakEven as BreakEven
from .report import CorpusSummary as CorpusSummary
from .report import Cost as Cost
from .report import CountEstimates as CountEstimates
from .report import Decision as Decision
from .report import DetectableDifference as DetectableDifference
from .report import Estimates as Estimates
from .report import Excerpt as Excerpt
from .report import Findings as Findings
from .report import Grouping as Grouping
from .report import Pace as Pace
from .report import QualityTarget as QualityTarget
from .report import RunSummary as RunSummary
from .report import SpanEstimates as SpanEstimates
from .report import Strategy as Strategy
from .report import TrainingSummary as TrainingSummary
from .report import ValueCount as ValueCount
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
from .tools import CorpusState as CorpusState
from .tools import FalconerToolkit as FalconerToolkit
from .tools import KeptResult as KeptResult
from .tools import create_falconer_subagent as create_falconer_subagent
from .tools import create_mcp_server as create_mcp_server
from .train import Previous as Previous
from .train import PreviousTask as PreviousTask
from .train import train_proxy as train_proxy

__version__: str

__all__ = [
    "LLM",
    "Accuracy",
    "All",
    "AnnotateSettings",
    "Annotation",
    "AnnotationError",
    "AnnotationSummary",
    "Answers",
    "Any_",
    "AskOptions",
    "BackendChoice",
    "BadRow",
    "BreakEven",
    "BudgetError",
    "BudgetSettings",
    "Candidate",
    "Certificate",
    "CorpusData",
    "CorpusError",
    "CorpusLike",
    "CorpusMiddleware",
    "CorpusRetriever",
    "CorpusSettings",
    "CorpusState",
    "CorpusSummary",
    "Cost",
    "CountEstimates",
    "CurvePoint",
    "Decision",
    "DetectableDifference",
    "Document",
    "Equals",
    "Estimate",
    "Estimates",
    "Excerpt",
    "Exists",
    "F1Scores",
    "Falconer",
    "FalconerContext",
    "FalconerError",
    "FalconerToolkit",
    "Findings",
    "Forecast",
    "Grouping",
    "Guarantee",
    "Home",
    "In",
    "IngestReport",
    "KeptResult",
    "LLMError",
    "LLMSettings",
    "Label",
    "LabelData",
    "LabelOption",
    "LabelScores",
    "LabelStep",
    "LearningCurve",
    "Meter",
    "Metric",
    "MineSettings",
    "MiningResult",
    "Mistake",
    "Not",
    "OperatingPoint",
    "OptionData",
    "Pace",
    "Partition",
    "Place",
    "Plan",
    "PlanData",
    "PlanError",
    "PlanIssue",
    "Planner",
    "PlannerError",
    "Previous",
    "PreviousTask",
    "Price",
    "ProgressCallback",
    "ProgressEvent",
    "Prompts",
    "Proportion",
    "Proxy",
    "ProxyError",
    "Quality",
    "QualityTarget",
    "Record",
    "Reliability",
    "ReliabilityBin",
    "Reply",
    "ResultRow",
    "Review",
    "ReviewRequest",
    "Reviewer",
    "RowCounts",
    "RunError",
    "RunSettings",
    "RunSummary",
    "Scores",
    "SettingsError",
    "Slice",
    "Span",
    "SpanCounts",
    "SpanData",
    "SpanEstimates",
    "SpanExample",
    "SpanStep",
    "StepData",
    "StepQuality",
    "StoredCorpus",
    "Strategy",
    "Suspect",
    "Targets",
    "TrainSettings",
    "TrainingSummary",
    "Trust",
    "Url",
    "Usage",
    "ValueCount",
    "build_falconer",
    "create_falconer_graph",
    "create_falconer_subagent",
    "create_mcp_server",
    "read_annotations",
    "train_proxy",
    "write_annotations",
]
