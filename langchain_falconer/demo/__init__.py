"""The demo: 2,000 real film reviews, and annotations made by hand for users without an LLM."""

from langchain_falconer.demo.recording import Recording
from langchain_falconer.demo.reviews import film_reviews, reviews

__all__ = ["Recording", "film_reviews", "reviews"]
