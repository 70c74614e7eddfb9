"""Frozen lower layers: what they make of a text is computed once, and only the layers above them are trained."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from langchain_falconer.model.tokenization import Window, pad
from langchain_falconer.train.precision import autocast

if TYPE_CHECKING:
    from langchain_falconer.model.network import QueryHeadModel

_MAX_TOKENS = 400_000
"""Tokens whose states are held, in float16: 300 MB of 384 dimensions; those of more texts are computed each time."""
_SLICEABLE = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Model types of embeddings followed by a stack of equal layers, with nothing before, between or after them."""


def n_layers(encoder: Any) -> int:
    """Return the number of layers of an encoder of which the lower ones can be frozen; 0 for others."""
    return len(encoder.encoder.layer) if encoder.config.model_type in _SLICEABLE else 0


class LowerLayers:
    """The inputs of the layers that are trained: states after the frozen layers, or token ids where none is frozen.

    Args:
        model: The network before training.
        frozen: Number of lower layers that are not trained, at most :func:`n_layers`.
        pad_id: Token id that fills up batches.
        device: Where the network is trained.
    """

    def __init__(self, model: QueryHeadModel, frozen: int, pad_id: int, device: torch.device) -> None:
        self._encoder = copy.deepcopy(_layers(model.encoder, 0, frozen)).to(device).eval() if frozen else None
        self.frozen = frozen
        self._pad_id = pad_id
        self._device = device
        self._states: dict[int, tuple[Window, Tensor]] = {}  # by id; the window is held so that its id stays its own
        self._tokens = 0

    def trained_part(self, model: QueryHeadModel) -> nn.Module:
        """Return the part of a copy of the network that is trained: it takes :meth:`inputs`, then heads."""
        return _UpperModel(model, self.frozen) if self.frozen else model

    def states_of(self, model: QueryHeadModel, windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """Return the states (B, T, d) of the last layer of a copy of the network, without gradients, and the mask."""
        inputs, mask = self.inputs(windows)
        encoder, name = (_upper(model, self.frozen), "inputs_embeds") if self.frozen else (model.encoder, "input_ids")
        with torch.no_grad(), autocast(self._device, mask.shape[1]):
            states = encoder(**{name: inputs}, attention_mask=mask).last_hidden_state
        return states.float(), mask

    def freeze(self, model: QueryHeadModel) -> None:
        """Exclude from training what is frozen; at least the word embeddings."""
        freeze_word_embeddings(model.encoder)
        if self.frozen:
            _layers(model.encoder, 0, self.frozen).requires_grad_(False)

    def inputs(self, windows: Sequence[Window]) -> tuple[Tensor, Tensor]:
        """Return states (B, T, d), or token ids (B, T), and the attention mask (B, T) of a batch."""
        ids, mask = (torch.from_numpy(a).to(self._device) for a in pad(windows, self._pad_id))
        if self._encoder is None:
            return ids, mask
        new = [i for i, window in enumerate(windows) if id(window) not in self._states]
        computed = {}
        if new:
            with torch.no_grad(), autocast(self._device, ids.shape[1]):
                states = self._encoder(input_ids=ids[new], attention_mask=mask[new]).last_hidden_state
            computed = {i: states[row, : len(windows[i].ids)].half() for row, i in enumerate(new)}
        held = [computed[i] if i in computed else self._states[id(w)][1] for i, w in enumerate(windows)]
        for i, state in computed.items():
            if self._tokens + len(state) <= _MAX_TOKENS:
                self._states[id(windows[i])] = windows[i], state.clone()
                self._tokens += len(state)
        return nn.utils.rnn.pad_sequence(held, batch_first=True).float(), mask


def freeze_word_embeddings(encoder: Any) -> None:
    """Exclude the word embeddings from training: they are half of a small encoder, and rare words would drift."""
    encoder.get_input_embeddings().requires_grad_(False)


class _UpperModel(nn.Module):
    """A network without its lower layers; it shares all weights with the whole one."""

    def __init__(self, model: QueryHeadModel, first: int) -> None:
        super().__init__()
        self.model = model
        self.encoder = _upper(model, first)

    def forward(self, states: Tensor, attention_mask: Tensor, *heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return the token scores and label scores of every head; see :class:`QueryHeadModel`."""
        states = self.encoder(inputs_embeds=states, attention_mask=attention_mask).last_hidden_state
        return self.model.score(states, attention_mask, *heads)


class _GivenStates(nn.Module):
    """States in place of embeddings."""

    def forward(self, *, inputs_embeds: Tensor, **_: Any) -> Tensor:
        return inputs_embeds


def _upper(model: QueryHeadModel, first: int) -> Any:
    """Return the encoder from a layer on, which takes ``inputs_embeds``."""
    encoder = _layers(model.encoder, first, None)
    encoder.embeddings = _GivenStates()
    return encoder


def _layers(encoder: Any, first: int, last: int | None) -> Any:
    """Return an encoder of only these layers, which shares its weights with the whole one."""
    part = _shallow_copy(encoder)
    part.encoder = _shallow_copy(encoder.encoder)
    part.encoder.layer = encoder.encoder.layer[first:last]
    return part


def _shallow_copy(module: Any) -> Any:
    """Copy a module, but not the modules in it."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    return copied
