"""ONNX export through Optimum and through torch, the graph that shares its weights, and int8."""

import sys

import numpy as np
import onnx
import pytest

from langchain_falconer.errors import ProxyError
from langchain_falconer.model import HeadWeights, OnnxSession, TorchSession, save_metamodel
from langchain_falconer.model.encoder import load_tokenizer
from langchain_falconer.model.metamodel import load_model, load_zero_shot_encoder
from langchain_falconer.model.onnx_export import INPUTS, OUTPUTS, PARITY, export_onnx
from langchain_falconer.model.quantization import quantize_blocks

ARCHITECTURES = ["tiny_bert", "tiny_roberta", "tiny_deberta", "tiny_modernbert"]
EXPORTERS = ["optimum", "torch"]


@pytest.fixture(params=EXPORTERS)
def exporter(request, monkeypatch):
    """The library that exports; Optimum is hidden for ``torch``."""
    if request.param == "optimum":
        pytest.importorskip("optimum.exporters.onnx", exc_type=ImportError)
    else:
        monkeypatch.setitem(sys.modules, "optimum.exporters.onnx.model_configs", None)
    return request.param


def random_heads(width, spans, labels, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(3 * spans, width), (3 * spans,), (labels, width), (labels,)]
    return HeadWeights(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes))


def dynamic_axes(values):
    dims = {v.name: v.type.tensor_type.shape.dim for v in values}
    return {name: {i: d.dim_param for i, d in enumerate(shape) if d.dim_param} for name, shape in dims.items()}


@pytest.mark.parametrize("base", ARCHITECTURES)
def test_one_file_serves_any_batch_length_and_number_of_heads(base, exporter, request, tmp_path):
    model = load_model(request.getfixturevalue(base))
    file = tmp_path / "model.onnx"
    assert export_onnx(model, file, random_heads(model.hidden_size, 1, 1)) < PARITY
    assert [f.name for f in tmp_path.iterdir()] == ["model.onnx"]  # weights inside
    original, exported = TorchSession(model), OnnxSession(file)
    for texts, tokens, spans, labels in [(1, 3, 1, 0), (3, 40, 0, 5), (2, 100, 4, 2)]:
        ids = np.random.default_rng(tokens).integers(5, 80, (texts, tokens))
        mask = np.ones_like(ids)
        mask[-1, tokens // 2 + 1 :] = 0
        heads = random_heads(model.hidden_size, spans, labels)
        (ours, our_labels), (theirs, their_labels) = (s.run(ids, mask, heads) for s in (original, exported))
        assert np.allclose(ours[mask == 1], theirs[mask == 1], atol=1e-4)
        assert np.allclose(our_labels, their_labels, atol=1e-4)


def test_inputs_outputs_and_axes_have_the_same_names_by_either_exporter(exporter, tiny_bert, tmp_path):
    model = load_model(tiny_bert)
    export_onnx(model, tmp_path / "model.onnx", random_heads(model.hidden_size, 1, 1))
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert dynamic_axes(graph.input) == INPUTS
    assert dynamic_axes(graph.output) == OUTPUTS


def test_a_metamodel_of_either_exporter_keeps_its_weights_in_safetensors(exporter, tiny_bert, tmp_path):
    model = load_model(tiny_bert)
    save_metamodel(model, load_tokenizer(tiny_bert), tmp_path, {})
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    shared = [i for i in graph.initializer if i.external_data]
    assert {entry.value for i in shared for entry in i.external_data if entry.key == "location"} == {
        "model.safetensors"
    }
    matrices = sum(p.numel() >= 4096 for p in model.encoder.parameters())
    assert len(shared) == matrices > 0
    encoder, _ = load_zero_shot_encoder(str(tmp_path))
    assert isinstance(encoder.session, OnnxSession)
    ids, heads = np.arange(5, 37).reshape(2, 16), random_heads(model.hidden_size, 2, 2)
    sessions = TorchSession(load_model(str(tmp_path))), encoder.session
    scores = [session.run(ids, np.ones_like(ids), heads) for session in sessions]
    assert all(np.allclose(one, other, atol=1e-4) for one, other in zip(*scores, strict=True))


def test_a_network_that_cannot_be_traced_is_refused_with_its_cause(exporter, tiny_bert, tmp_path):
    model = load_model(tiny_bert)

    def fail(*_, **__):
        raise TypeError("no such operator")

    model.encoder.forward = fail
    with pytest.raises(ProxyError, match=r"no such operator.*backend='torch'") as caught:
        export_onnx(model, tmp_path / "model.onnx", random_heads(model.hidden_size, 1, 1))
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_export_that_scores_otherwise_is_refused(exporter, tiny_bert, tmp_path, monkeypatch):
    model = load_model(tiny_bert)
    original = OnnxSession.run
    monkeypatch.setattr(
        OnnxSession, "run", lambda self, *args: tuple(scores + 0.01 for scores in original(self, *args))
    )
    with pytest.raises(ProxyError, match=r"differs .* by 0\.01"):
        export_onnx(model, tmp_path / "model.onnx", random_heads(model.hidden_size, 1, 1))


def test_an_export_that_fails_on_long_padding_is_refused(tiny_modernbert, tmp_path, monkeypatch):
    def run(self, ids, mask, weights):  # what torch 2.6 makes of attention that is local and masked
        spans, labels = TorchSession(model).run(ids, mask, weights)
        return spans, np.where(mask[:, -64:].any(1)[:, None], labels, np.nan)

    model = load_model(tiny_modernbert)
    monkeypatch.setattr(OnnxSession, "run", run)
    with pytest.raises(ProxyError, match="differs"):
        export_onnx(model, tmp_path / "model.onnx", random_heads(model.hidden_size, 1, 1))


def test_a_file_that_cannot_be_quantised_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ProxyError, match="export the proxy again"):
        quantize_blocks(tmp_path / "model.onnx", tmp_path / "int8.onnx")
    assert [f.name for f in tmp_path.iterdir()] == ["model.onnx"]
