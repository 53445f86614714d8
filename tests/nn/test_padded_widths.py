"""Products computed as on a GPU, with padded widths and batched over the sets, against those of a CPU."""

import pytest
import torch
from helpers.batches import make_batch
from helpers.families import EVERY_FAMILY, build
from helpers.feature_maps import categorical, make_feature_map

from fuxictr_me import DNN_ME, DCNv2_ME, FinalMLP_ME, Mixed_ME, xDeepFM_ME
from fuxictr_me.nn import CrossNetwork, SetLinear
from fuxictr_me.nn import padded_widths as widths

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def odd_map():
    """Five fields: no width of a layer is a multiple of 8."""
    return make_feature_map({f"field{i}": categorical(9 + i) for i in range(5)})


def as_on_a_gpu(monkeypatch, has_tensor_cores=True):
    monkeypatch.setattr(widths, "ON_CPU", True)
    monkeypatch.setattr(widths, "HAS_TENSOR_CORES", has_tensor_cores)


def predict_with_gradients(model, batch):
    model.zero_grad()
    torch.manual_seed(1)
    result = model(batch)
    loss = model.add_loss(result, model.get_labels(batch))
    loss.backward()
    return result["y_pred"].detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def check_padded_equals_plain(model, batch, monkeypatch):
    model.double().train()
    plain, plain_gradients = predict_with_gradients(model, batch)
    for multiple in (None, 8, 64):
        as_on_a_gpu(monkeypatch, multiple is not None)
        monkeypatch.setattr(widths, "MULTIPLE", multiple)
        padded, gradients = predict_with_gradients(model, batch)
        torch.testing.assert_close(padded, plain, rtol=0, atol=1e-12)
        assert gradients.keys() == plain_gradients.keys() and len(gradients) > 3
        for name, gradient in gradients.items():
            assert gradient.shape == plain_gradients[name].shape
            torch.testing.assert_close(gradient, plain_gradients[name], rtol=0, atol=1e-12, msg=name)


@EVERY_FAMILY
@pytest.mark.parametrize("num_sets", [1, 3])
def test_padded_models_compute_the_same(odd_map, model_class, num_sets, monkeypatch):
    model = build(model_class, odd_map, num_sets, embedding_dim=3)
    check_padded_equals_plain(model, make_batch(odd_map), monkeypatch)


@pytest.mark.parametrize(
    "model_class, settings",
    [
        (DCNv2_ME, {"model_structure": "parallel", "parallel_dnn_hidden_units": [7, 3]}),
        (DCNv2_ME, {"model_structure": "crossnet_only", "field_weights": True}),
        (DCNv2_ME, {"shared_interaction": True}),
        (DCNv2_ME, {"use_low_rank_mixture": True, "low_rank": 3, "num_experts": 2}),
        (DCNv2_ME, {"aggregation": "gated", "space_similarity_regularizer": 0.1, "norm_alignment_regularizer": 0.1}),
        (DCNv2_ME, {"aggregation": "concat", "embedding_dim": [3, 3, 5]}),
        (FinalMLP_ME, {"use_fs": True, "fs_hidden_units": [5], "fs1_context": ["field1"]}),
        (xDeepFM_ME, {"cin_hidden_units": [3, 5, 2], "dnn_hidden_units": []}),
    ],
)
def test_padded_options_compute_the_same(odd_map, model_class, settings, monkeypatch):
    model = build(model_class, odd_map, None if "embedding_dim" in settings else 3, **{"embedding_dim": 3, **settings})
    check_padded_equals_plain(model, make_batch(odd_map), monkeypatch)


def test_padded_mixed_models_compute_the_same(odd_map, monkeypatch):
    interactions = ["DCNv2", "DNN", "FinalMLP", "NFwFM", "PNN", "xDeepFM"]
    model = build(Mixed_ME, odd_map, None, embedding_dim=3, interactions=interactions, hidden_units=[6, 5])
    check_padded_equals_plain(model, make_batch(odd_map), monkeypatch)


def test_products_have_widths_that_tensor_cores_can_load(odd_map, monkeypatch):
    as_on_a_gpu(monkeypatch)
    seen, product = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda x, w: seen.append((x.shape[-1], w.shape[-2])) or product(x, w))
    model = build(DCNv2_ME, odd_map, embedding_dim=3).double()
    model(make_batch(odd_map))
    assert seen[:3] == [(16, 16)] * 3  # of 15: two cross layers and the projection
    assert all(a == b and a % widths.MULTIPLE == 0 for a, b in seen)


def test_a_cross_network_keeps_its_width_and_a_layer_ignores_padding(monkeypatch):
    as_on_a_gpu(monkeypatch)
    network, x = CrossNetwork(2, [3, 4], 2), torch.randn(5, 2, 7)
    assert network(x).shape == (5, 2, 7)
    network.keeps_padding = True
    assert network(x).shape == (5, 2, 8) and not network(x)[..., 7:].any()
    layer = SetLinear(2, 7, 3)
    torch.testing.assert_close(layer(network(x)), layer(network(x)[..., :7]))


def test_checkpoints_do_not_contain_padding(odd_map, monkeypatch):
    shapes = {name: x.shape for name, x in build(DNN_ME, odd_map, embedding_dim=3).state_dict().items()}
    as_on_a_gpu(monkeypatch)
    assert {name: x.shape for name, x in build(DNN_ME, odd_map, embedding_dim=3).state_dict().items()} == shapes


@pytest.mark.parametrize("rows, chunks", [(32, 8), (24, 8), (20, 4), (6, 2), (7, 1)])
@pytest.mark.parametrize("by_sets", [True, False])
def test_gradients_of_weights_are_correct_sums_over_chunks(rows, chunks, by_sets):
    x, weight = torch.randn(3, rows, 7).double(), torch.randn(3, 5, 7).double()
    if not by_sets:
        x = x.transpose(0, 1).contiguous().transpose(0, 1)
    x, weight = x.requires_grad_(), weight.requires_grad_()
    assert widths.num_chunks(3, rows, 5, 7) == chunks
    assert torch.autograd.gradcheck(widths.BatchedProduct.apply, (x, weight))


def test_a_product_with_enough_tiles_is_not_chunked(monkeypatch):
    monkeypatch.setattr(widths, "HAS_TENSOR_CORES", True)
    assert widths.num_chunks(10, 4096, 392, 392) == 1  # 80 tiles of 256 x 128
    assert widths.num_chunks(4, 4096, 392, 392) == 4  # 32
    monkeypatch.setattr(widths, "HAS_TENSOR_CORES", False)
    assert widths.num_chunks(10, 4096, 390, 390) == 2  # 490 tiles of 64 x 64
    assert widths.num_chunks(40, 4096, 390, 390) == 1
