"""The other ways to put questions to an encoder: in front of the text, all of them at once or one by one.

The networks that make slots are those of the slot model, and so are the base's weights that they start from: all that
differs is what the encoder reads, and where a question's vector is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from langchain_falconer.proxy import LABEL_SCALE, Layout, ReadWords, ScoreTexts, SlotModel, autocast, load_model, pooled

_ROOM = 256  # tokens of questions before a text: half of what the encoder sees
_ALIKE = 0.6  # near the cosine of question and text that have read each other, untrained: neither yes nor no
_MANY = 24_576  # tokens of a batch, over all its passes, whose states fit into memory until their gradients are due


@dataclass(frozen=True)
class _Question:
    """Token ids of a question: of what is asked (an option answers it), and of its own words."""

    head: list[int]
    words: list[int]
    spans: bool


@dataclass(frozen=True)
class _Prompt:
    """What stands before a text: P ids, a marker at some of them, and of which states (n, P) the n vectors are made.

    The first ``spans`` of the n ask for spans, the others for labels.
    """

    ids: Tensor
    markers: Tensor
    shares: Tensor
    spans: int


class PromptModel(SlotModel):
    """All questions in front of the text, in one sequence, as GLiNER has them (arXiv 2311.08526).

    ``[CLS] <m> question <m> question … instruction <m> option <m> option … [SEP] text [SEP]``: a question's slot is
    made, anew for every text, from the mean of the states over its marker and its words. (GLiNER takes the marker's
    alone; with that, labels start at chance here.) An instruction stands once before its options. Questions of more
    than 256 tokens are split over several passes, so that the text is read again for each.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.marker = nn.Parameter(torch.zeros(self.hidden_size))  # what makes a marker of [SEP]
        with torch.no_grad():
            self.label_map[-1].bias[-1] = -LABEL_SCALE * _ALIKE  # type: ignore[operator]

    def prompts(self, questions: Sequence[_Question], start: int, end: int) -> Iterator[_Prompt]:
        """What is read before a text, pass by pass; ``start`` and ``end`` are the ids of the special tokens."""
        group: list[_Question] = []
        for question in questions:
            if len(self._marked([*group, question], start, end).ids) > _ROOM and group:
                yield self._marked(group, start, end)
                group = []
            group.append(question)
        yield self._marked(group, start, end)

    def _marked(self, questions: Sequence[_Question], start: int, end: int) -> _Prompt:
        ids, at, head = [start], [], list[int]()
        for question in questions:
            ids += question.head if question.head != head else []
            head = question.head
            at.append((len(ids), len(question.words) + 1))
            ids += [end, *question.words]
        markers, shares = torch.zeros(len(ids) + 1), torch.zeros(len(at), len(ids) + 1)
        for row, (first, size) in enumerate(at):
            markers[first] = 1
            shares[row, first : first + size] = 1 / size
        return _Prompt(torch.tensor([*ids, end]), markers, shares, sum(q.spans for q in questions))

    def scorer(self, layout: Layout, read: ReadWords) -> ScoreTexts:
        """See :meth:`SlotModel.scorer`."""
        prompts = list(self.prompts(*_questions(layout, read)))

        def score(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
            count, width = input_ids.shape
            tokens = count * sum(len(p.ids) + width - 1 for p in prompts)
            twice = torch.is_grad_enabled() and tokens > _MANY
            scores = [self._pass(p, input_ids, attention_mask, twice=twice) for p in prompts]
            spans, labels = zip(*scores, strict=True)
            return torch.cat(spans, -1), torch.cat(labels, -1)

        return score

    def _pass(self, prompt: _Prompt, ids: Tensor, mask: Tensor, *, twice: bool) -> tuple[Tensor, Tensor]:
        """The scores of a prompt's questions; with ``twice`` its states are forgotten, and computed again backwards."""
        count, width = len(ids), len(prompt.ids)
        markers = prompt.markers[:, None].to(self.marker.dtype) * self.marker
        words = self.encoder.get_input_embeddings()  # type: ignore[operator]
        embedded = torch.cat([(words(prompt.ids) + markers).expand(count, -1, -1), words(ids[:, 1:])], 1)
        seen = torch.cat([mask.new_ones(count, width), mask[:, 1:]], 1)
        if twice:
            states = checkpoint(
                self._states, embedded, seen, use_reentrant=False, context_fn=lambda: (nullcontext(), autocast())
            )
        else:
            states = self._states(embedded, seen)
        vectors = functional.normalize(prompt.shares.to(states.dtype) @ states[:, :width], dim=-1)
        text = torch.cat([states[:, :1], states[:, width:]], 1)  # where the text's own ids have them
        return self._read(vectors[:, : prompt.spans], vectors[:, prompt.spans :], text, pooled(text, mask))

    def _states(self, embedded: Tensor, seen: Tensor) -> Tensor:
        states: Tensor = self.encoder(inputs_embeds=embedded, attention_mask=seen).last_hidden_state
        return states

    def _read(self, spans: Tensor, options: Tensor, text: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Token and label scores by slots of each text's own: vectors (B, S, d) and (B, L, d), states (B, T, d)."""
        count, d = whole.shape
        weight, bias = self.span_slots(spans.flatten(0, 1))
        span_scores = text @ weight.view(count, -1, d).transpose(1, 2) + bias.view(count, 1, -1)
        beside = whole[:, None].expand_as(options)
        weight, bias = self.label_slots(options.flatten(0, 1), beside.flatten(0, 1))
        products = (weight.view(count, -1, d) * beside).sum(-1)
        return span_scores, LABEL_SCALE * products + bias.view(count, -1)


class PassModel(PromptModel):
    """A question and the text: a pass for each span question and each option, as Cuckoo asks (arXiv 2502.11275).

    ``[CLS] instruction option [SEP] text [SEP]``. The words of a span are tagged, an option is judged, by slots made
    from the pooled states of the question, which has read the text.
    """

    def prompts(self, questions: Sequence[_Question], start: int, end: int) -> Iterator[_Prompt]:
        """See :meth:`PromptModel.prompts`."""
        for question in questions:
            ids = torch.tensor([start, *question.head, *question.words, end])
            yield _Prompt(ids, torch.zeros(len(ids)), torch.full((1, len(ids)), 1 / len(ids)), int(question.spans))


def prompted(base: str) -> PromptModel:
    """All questions before the text, on the encoder of a base."""
    return PromptModel(load_model(base).encoder).eval()


def one_by_one(base: str) -> PassModel:
    """A pass a question, on the encoder of a base."""
    return PassModel(load_model(base).encoder).eval()


def _questions(layout: Layout, read: ReadWords) -> tuple[list[_Question], int, int]:
    """The questions in the order of their slots, and the ids that texts start and end with."""
    unique = sorted({*layout.span_texts, *layout.label_texts, *layout.asked_texts})
    rows, mask = read(unique)
    framed = [row[: int(length)].tolist() for row, length in zip(rows, mask.sum(1), strict=True)]
    words = {text: ids[1:-1] for text, ids in zip(unique, framed, strict=True)}
    spans = [_Question([], words[text], spans=True) for text in layout.span_texts]
    labels = [
        _Question(words[asked] if asked != text else [], words[text], spans=False)
        for text, asked in zip(layout.label_texts, layout.asked_texts, strict=True)
    ]
    return [*spans, *labels], framed[0][0], framed[0][-1]
