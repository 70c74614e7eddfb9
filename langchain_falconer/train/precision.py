"""Precision and attention of training, by device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_LONG = 192
"""Tokens from which on the fused attention of torch is faster on a CPU, backward pass included."""


@contextmanager
def autocast(device: torch.device | str = "cpu", length: int = 0) -> Iterator[None]:
    """Compute in bf16 where that is fast.

    On a CPU attention is computed as plain matrix products for short texts, whose fused backward pass takes twice as
    long, and fused for long ones, so that no matrix of all pairs of tokens is held.

    Args:
        device: Where tensors are.
        length: Tokens of the longest text of the batch.
    """
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=is_fast_in_bf16(kind)):
        if kind != "cpu":
            yield
            return
        fused = [SDPBackend.FLASH_ATTENTION] if length >= _LONG else []
        with sdpa_kernel([*fused, SDPBackend.MATH]):  # of these the first that supports the inputs
            yield


def is_fast_in_bf16(kind: str) -> bool:
    """Return whether a kind of device multiplies bf16 in hardware."""
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cpu" and has_fast_bf16()


def has_fast_bf16() -> bool:
    """Return whether this CPU multiplies bf16 in hardware."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def disable_attention_dropout(encoder: nn.Module) -> None:
    """Train without dropout of attention weights, which excludes the fused attention, and costs a tenth of the time."""
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Dropout) and name.endswith("attention.self.dropout"):
            module.p = 0.0
