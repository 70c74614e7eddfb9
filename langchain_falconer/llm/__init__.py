"""The LLM client of planner and annotator: structured output, retries, rate limit, and usage of every attempt."""

from langchain_falconer.llm.batches import BatchResult, BatchStatus, OpenAIBatches
from langchain_falconer.llm.client import LLM
from langchain_falconer.llm.output_modes import OUTPUT_MODES, OutputMode
from langchain_falconer.llm.prices import Price
from langchain_falconer.llm.replies import Reply, message_text
from langchain_falconer.llm.usage import Meter, Usage, estimate_tokens
from langchain_falconer.llm.waiting import Wait, on_wait, wait_for

__all__ = [
    "LLM",
    "OUTPUT_MODES",
    "BatchResult",
    "BatchStatus",
    "Meter",
    "OpenAIBatches",
    "OutputMode",
    "Price",
    "Reply",
    "Usage",
    "Wait",
    "estimate_tokens",
    "message_text",
    "on_wait",
    "wait_for",
]
