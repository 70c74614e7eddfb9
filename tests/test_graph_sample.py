"""The texts of a job are drawn in parts, each after the answers about those before."""

from __future__ import annotations

import json
import math
from collections import Counter

from laptops import INSTRUCTION, PLAN, asked, review, teacher, write_corpus
from loopback import ChatServer, llm_at

from langchain_falconer.graph import build_falconer
from langchain_falconer.graph.nodes.sample import possible_answers
from langchain_falconer.model import Embedder, Proxy
from langchain_falconer.plan import Plan

TEXTS = [review(i if i % 40 == 0 else 3 * i) for i in range(1, 601)]
"""600 reviews, all bad but 10 of those whose number is a multiple of 40."""
NODES = ["sample", "annotate"] * 5


class Job:
    """The graph up to the training, and the texts that its LLM was asked about."""

    def __init__(self, folder, settings):
        folder.mkdir()
        write_corpus(folder / "corpus.jsonl", TEXTS)
        self.folder = folder
        self.settings = settings.model_copy(update={"annotations": 90})
        self.asked = Counter()
        self.notes = []

    def run(self, until=None):
        """Run until so many of the nodes are through; return the sample."""

        def reply(request):
            if "Is this a positive review?" in request["messages"][-1]["content"]:
                self.asked.update(asked(request).values())
            return teacher(request)

        task = {"instruction": INSTRUCTION, "corpus": [str(self.folder / "corpus.jsonl")], "plan": PLAN.to_dict()}
        done = []
        with ChatServer(reply) as server:
            graph = build_falconer(llm_at(server), home=self.folder / "home", settings=self.settings)
            stream = graph.compile(interrupt_before=["train"]).stream(
                {**task, "auto_approve": True}, stream_mode=["updates", "custom"]
            )
            for mode, update in stream:
                if mode == "custom":
                    self.notes.append(update)
                    continue
                done += [node for node in update if node in NODES]
                if len(done) == until:
                    break
            stream.close()
        (file,) = (self.folder / "home").glob("runs/*/sample-0.json")
        return done, json.loads(file.read_text())


def test_the_texts_are_drawn_in_parts_and_each_is_asked_about_once(settings, tmp_path):
    job = Job(tmp_path / "job", settings)
    done, sample = job.run()
    assert done == NODES
    assert sample["remaining"] == 0
    assert len({*sample["train"]}) == len(sample["train"]) == 63
    assert (len(sample["development"]), len(sample["test"])) == (9, 18)
    assert job.asked == Counter({*sample["train"], *sample["development"], *sample["test"]})
    indexed = [event for event in job.notes if event["stage"] == "index"]
    assert indexed[-1]["done"] == indexed[-1]["total"] == len(set(TEXTS))
    assert job.run()[1] == sample
    assert set(job.asked.values()) == {1}


def test_a_job_that_is_stopped_between_the_parts_draws_the_same_sample(settings, tmp_path):
    whole = Job(tmp_path / "whole", settings).run()[1]
    for until in (3, 4):  # after a part was drawn, and after it was annotated
        job = Job(tmp_path / f"stopped-{until}", settings)
        assert job.run(until)[1]["remaining"] > 0
        assert job.run()[1] == whole
        assert set(job.asked.values()) == {1}


def test_without_an_index_all_texts_are_uniform(settings, tmp_path):
    job = Job(tmp_path / "job", settings.model_copy(update={"indexed": 0}))
    done, sample = job.run()
    assert done == ["sample", "annotate"]
    assert sample["uniform"] == len(sample["train"]) == 63
    assert not (tmp_path / "job" / "home" / "embeddings").exists()


def test_the_answers_that_a_plan_may_give_score_a_text_like_the_untrained_base(tiny_bert):
    steps = [
        {"id": "yes", "op": "get_label", "instruction": "Is it good?"},
        {"id": "one", "op": "get_label", "instruction": "Which?", "labels": ["price", "battery"]},
        {"id": "any", "op": "get_label", "instruction": "Which?", "labels": ["a", "b"], "multi_label": True},
        {"id": "span", "op": "get_span", "instruction": "Extract the price"},
    ]
    plan = Plan.parse({"instruction": "x", "steps": steps})
    embed = Embedder(tiny_bert)
    possible = possible_answers(plan.top_level, embed.encoder)
    assert [(answer.step, answer.value) for answer in possible] == [
        *(("yes", value) for value in (True, False)),
        *(("one", value) for value in ("price", "battery")),
        *(("any", value) for value in ("a", "b")),
        ("span", None),
    ]
    text = review(5)
    logits = [float(embed([text])[0] @ answer.weight + answer.bias) for answer in possible]
    (scores,) = Proxy.zero_shot(plan, base=tiny_bert).predictor.raw_scores([text])
    assert math.isclose(1 / (1 + math.exp(-logits[0])), scores.labels["yes"][0], abs_tol=1e-4)
    assert logits[1] == -logits[0]
    assert (logits[2] > logits[3]) == (scores.labels["one"][0] > scores.labels["one"][1])
    assert math.isclose(1 / (1 + math.exp(-logits[5])), scores.labels["any"][1], abs_tol=1e-4)
