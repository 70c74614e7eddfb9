"""The retriever over a stored corpus, by LangChain's own standard tests."""

import pytest
from langchain_tests.integration_tests import RetrieversIntegrationTests

from langchain_falconer import CorpusRetriever, Falconer

TEXTS = [
    "The railway workers went on strike for two days.",
    "Trains stood still while the union and the railway talked about wages.",
    "The bakery on the corner sells rye bread.",
    "A new recipe for rye bread takes three days.",
    "The striker scored twice and the goalkeeper saved a penalty.",
]


class TestCorpusRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _corpus(self, tmp_path):
        self.falconer = Falconer(home=tmp_path)
        self.falconer.add_documents("archive", [{"text": text, "number": i} for i, text in enumerate(TEXTS)])

    @property
    def retriever_constructor(self):
        return CorpusRetriever

    @property
    def retriever_constructor_params(self):
        return {"falconer": self.falconer, "corpus": "archive"}

    @property
    def retriever_query_example(self):
        return "strikes at railways"

    def test_the_nearest_come_first_with_their_columns(self, retriever):
        first, second, *others = retriever.invoke("strikes at railways")
        assert {first.metadata["number"], second.metadata["number"]} == {0, 1}
        assert len(others) == 3
        assert first.metadata["cosine"] >= second.metadata["cosine"]
        assert first.id
