"""The LLM client of planner and annotator: structured output, retries, rate limit, and usage of every attempt."""

from langchain_falconer.llm.client import LLM
from langchain_falconer.llm.prices import Price
from langchain_falconer.llm.replies import Reply, message_text
from langchain_falconer.llm.usage import Meter, Usage, estimate_tokens

__all__ = ["LLM", "Meter", "Price", "Reply", "Usage", "estimate_tokens", "message_text"]
