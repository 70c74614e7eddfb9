"""Your own labels instead of an LLM: train a proxy on a few annotated texts, and run it over others.

Run it: python examples/own_labels.py
"""

from __future__ import annotations

from langchain_falconer import Annotation, Falconer, Label, LabelStep, Plan, Span, SpanStep
from langchain_falconer.records import Answers

SHOPS = ["Kwik Mart", "Blue Door", "Harper & Sons", "Lidl", "the corner shop", "Tesco"]
GOODS = [("a lamp", "$20"), ("two chairs", "$145"), ("some tea", "$3.50"), ("a desk", "$310"), ("a rug", "$89")]


def annotated(text: str, price: str, *, happy: bool) -> Annotation:
    """Return a text with its label and the offsets of the price."""
    start = text.index(price)
    spans = {"price": (Span.at(text, start, start + len(price)),)}
    return Annotation(text, Answers({"happy": Label(happy)}, spans), source="human")


def main(falconer: Falconer | None = None) -> None:
    falconer = falconer or Falconer()
    plan = Plan(
        instruction="Find what happy customers paid",
        steps=(
            LabelStep(id="happy", instruction="Is the customer happy with the purchase?"),
            SpanStep(id="price", instruction="Extract the price that was paid"),
        ),
    )
    annotations = []
    for shop in SHOPS:
        for good, price in GOODS:
            annotations.append(annotated(f"Bought {good} at {shop} for {price}. I love it.", price, happy=True))
            annotations.append(
                annotated(f"{shop} took {price} from me for {good}, and it broke at once.", price, happy=False)
            )
    proxy = falconer.train(plan, annotations)
    proxy.save("customers.proxy")
    for record in proxy.run(
        ["Paid $42 for a kettle at Aldi, very pleased!", "My $1,200 sofa from Blue Door fell apart."]
    ):
        print(record.to_dict())


if __name__ == "__main__":
    main()
