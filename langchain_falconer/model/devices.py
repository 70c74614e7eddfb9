"""Devices that torch computes on: a CUDA GPU, Apple's GPU (mps) or the CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from langchain_falconer.errors import ProxyError
from langchain_falconer.settings import DeviceName

if TYPE_CHECKING:
    import torch


def resolve_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: ``cpu``, ``cuda``, ``mps``, or ``auto`` for the first of cuda, mps and cpu that is there.

    Raises:
        ProxyError: There is no such device here.
    """
    import torch

    if name not in get_args(DeviceName):
        raise ProxyError(f"there is no device '{name}'; choose {', '.join(get_args(DeviceName))}")
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_present in present.items() if is_present)
    if not present[name]:
        raise ProxyError(f"torch finds no {name} device here; choose the device auto or cpu")
    return torch.device(name)


def may_have_gpu() -> bool:
    """Return False where there is no GPU for sure, by the drivers of this machine: importing torch takes seconds."""
    return sys.platform != "linux" or any(Path(file).exists() for file in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
