import pytest

from langchain_falconer.errors import ProxyError
from langchain_falconer.model.devices import resolve_device


def test_auto_is_the_first_device_that_is_there(monkeypatch):
    import torch

    for cuda, mps, expected in [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert resolve_device("auto") == torch.device(expected)


def test_a_device_that_is_absent_or_unknown_is_an_error_that_names_another(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("cpu").type == "cpu"
    with pytest.raises(ProxyError, match="no cuda device here; choose the device auto or cpu"):
        resolve_device("cuda")
    with pytest.raises(ProxyError, match="no device 'tpu'; choose auto, cpu, cuda, mps"):
        resolve_device("tpu")
