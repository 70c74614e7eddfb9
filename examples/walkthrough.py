"""A tour of the Python API: a growing corpus, questions, their cost, and the rows behind the answers.

Run it: python examples/walkthrough.py (without OPENAI_API_KEY the untrained model answers, and says so)
"""

from __future__ import annotations

from langchain_core.documents import Document
from scripted_model import LLM

from langchain_falconer import Equals, Falconer, LabelStep, Plan, SpanStep


def main(falconer: Falconer | None = None) -> list[str]:
    falconer = falconer or Falconer(LLM)

    # A corpus has a name, is stored in the home, and holds each text once.
    pages = [
        Document("I love this laptop. I paid $999.", metadata={"url": "https://shop.example/1", "title": "Happy"}),
        Document("It broke at once, for $450.", metadata={"url": "https://shop.example/2"}),
        Document("I love this laptop. I paid $999.", metadata={"url": "https://copy.example"}),
    ]
    print(falconer.add_documents("reviews", pages).model_dump())

    # A question is an instruction that an LLM plans, or a plan.
    plan = Plan(
        instruction="Prices from positive reviews",
        steps=(
            LabelStep(id="positive", instruction="Is this a positive review?"),
            SpanStep(id="price", instruction="Extract the price", where=Equals(step="positive", equals=True)),
        ),
    )

    # Estimate the cost, without an LLM call.
    decision = falconer.estimate(plan, falconer.corpus("reviews"))
    print(decision.chosen.name, decision.chosen.tokens, "tokens;", decision.break_even)

    # The cheapest strategy that can be trusted is chosen: here, for two texts, the LLM itself.
    result = falconer.ask(plan, falconer.corpus("reviews"))
    print(result.decision.chosen.name if result.decision else "", result.cost.calls, "calls")
    for row in result.rows():
        print(row["metadata"]["url"], row["labels"], row["spans"])

    # The corpus grows; earlier answers are reused.
    falconer.add_documents(
        "reviews", [Document("Love it, a bargain at $700.", metadata={"url": "https://shop.example/3"})]
    )
    grown = falconer.ask(plan, falconer.corpus("reviews"))
    prices = [span["text"] for row in grown.rows() for span in row["spans"].get("price", [])]
    print(prices)
    return prices


if __name__ == "__main__":
    main()
