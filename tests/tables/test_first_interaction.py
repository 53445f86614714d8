"""Blocks of the first interaction found in state dicts, against the weights of the models."""

from functools import partial

import pytest
import torch
from fuxictr.pytorch.layers import CrossNetMix, CrossNetV2, FeatureEmbedding
from helpers.embedding_layers import Holder, fill, wrapped
from helpers.feature_maps import MODEL, categorical, make_feature_map
from torch import nn

from fuxictr_me import DCNv2_ME, Mixed_ME, NFwFM_ME, xDeepFM_ME
from fuxictr_me.collapse import low_rank_cross_weight
from fuxictr_me.tables import find_checkpoint_layers
from fuxictr_me.tables.first_interaction import find_first_interaction

SETTINGS = {**MODEL, "model_root": "unused", "embedding_initializer": "partial(nn.init.normal_, std=0.5)"}


@pytest.fixture
def plain():
    return make_feature_map({"a": categorical(9), "n": {"source": "", "type": "numeric"}, "b": categorical(7)})


def found_in(model, feature_map, name=None):
    return find_first_interaction(model.state_dict(), find_checkpoint_layers(model.state_dict(), feature_map), name)


def assert_blocks(blocks, W, dim):
    """``blocks[i][j]`` is the row block j and column block i of W."""
    for i, row in enumerate(blocks):
        for j, block in enumerate(row):
            expected = W[j * dim : (j + 1) * dim, i * dim : (i + 1) * dim]
            torch.testing.assert_close(block, expected)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_finds_cross_layers(plain, weighted, shared):
    model = DCNv2_ME(plain, num_sets=3, embedding_dim=2, field_weights=weighted, shared_interaction=shared, **SETTINGS)
    fill(model)
    found, _ = found_in(model, plain)
    network = model.interaction[0].network.crossnet if shared else model.interaction[0].crossnet
    weights = network.effective_weights()[0].detach()
    assert found.fields == ["a", "n", "b"] and found.layer == "embedding_layer" and len(found.blocks) == 3
    for m in range(3):
        assert_blocks(found.blocks[m], weights[0 if shared else m], 2)


def test_finds_low_rank_cross_layers(plain):
    model = fill(DCNv2_ME(plain, num_sets=2, embedding_dim=2, use_low_rank_mixture=True, low_rank=3, **SETTINGS))
    found, _ = found_in(model, plain)
    net = model.interaction[0].crossnet
    for m in range(2):
        experts = [net.U[0][m, e] @ net.C[0][m, e] @ net.V[0][m, e].T for e in range(4)]
        assert_blocks(found.blocks[m], sum(experts).detach() / 4, 2)


def test_each_set_gets_the_blocks_of_its_group(plain):
    names = ["DNN", "DCNv2", "DCNv2", "NFwFM"]
    model = fill(Mixed_ME(plain, interactions=names, embedding_dim=2, hidden_units=[5, 4], **SETTINGS))
    found, _ = found_in(model, plain)
    assert found.blocks[0] is None
    cross = model.interaction[1].inner.crossnet.cross_layers[0].weight.detach()
    assert_blocks(found.blocks[1], cross[0], 2)
    assert_blocks(found.blocks[2], cross[1], 2)
    N = model.interaction[2].inner.products.weight[0].detach()
    assert torch.equal(found.blocks[3][0][2], N[0, 2] * torch.eye(2))


def test_finds_blocks_of_sets_of_unequal_dimension(plain):
    model = DCNv2_ME(plain, embedding_dim=[2, 2, 3], stacked_dnn_hidden_units=[5, 4], **SETTINGS)
    found, _ = found_in(model, plain)
    for m, (group, of_group, dim) in enumerate([(0, 0, 2), (0, 1, 2), (1, 0, 3)]):
        assert_blocks(found.blocks[m], model.interaction[group].crossnet.cross_layers[0].weight[of_group].detach(), dim)


@pytest.mark.parametrize(
    "network", [partial(CrossNetV2, num_layers=2), partial(CrossNetMix, low_rank=2, num_experts=3)]
)
def test_finds_fuxictr_cross_layers(plain, network):
    held = fill(Holder(embedding_layer=FeatureEmbedding(plain, 2), crossnet=network(6)))
    found, _ = found_in(held, plain)
    if isinstance(held.crossnet, CrossNetV2):
        W = held.crossnet.cross_layers[0].weight
    else:
        W = low_rank_cross_weight(*(getattr(held.crossnet, f"{name}_list")[0] for name in "UCV"))
    assert_blocks(found.blocks[0], W.detach(), 2)


def test_finds_the_first_interaction_of_each_set_of_a_wrapped_model(plain):
    model = wrapped(lambda: Holder(embedding_layer=FeatureEmbedding(plain, 2), crossnet=CrossNetV2(6, 2)), 3)
    found, _ = found_in(model, plain)
    assert found.key == "crossnet.cross_layers.0.weight" and len(found.blocks) == 3
    for blocks, one in zip(found.blocks, (model, model.sets["1"], model.sets["2"]), strict=True):
        assert_blocks(blocks, one.crossnet.cross_layers[0].weight.detach(), 2)
    fwfm = wrapped(lambda: Holder(embedding_layer=FeatureEmbedding(plain, 2)), 2)
    fwfm.interaction_weight = nn.Linear(3, 1)  # of the head: there once, for all sets
    found, _ = found_in(fwfm, plain)
    for blocks in found.blocks:
        assert torch.equal(blocks[0][2], fwfm.interaction_weight.weight[0, 1].detach() * torch.eye(2))
    assert len(found.blocks) == 2


def test_finds_field_weighted_and_field_matrixed_products(plain):
    fwfm = fill(Holder(embedding_layer=FeatureEmbedding(plain, 2), interaction_weight=nn.Linear(3, 1)))
    blocks = found_in(fwfm, plain)[0].blocks[0]
    assert torch.equal(blocks[0][2], fwfm.interaction_weight.weight[0, 1].detach() * torch.eye(2))  # pairs 01, 02, 12
    assert blocks[1][1] is None
    fmfm = Holder(embedding_layer=FeatureEmbedding(plain, 2), interaction_weight=nn.Parameter(torch.randn(3, 2, 2)))
    blocks = found_in(fmfm, plain)[0].blocks[0]
    assert torch.equal(blocks[1][2], fmfm.interaction_weight[2].detach().T)
    ours = fill(NFwFM_ME(plain, num_sets=2, embedding_dim=2, hidden_units=[5, 4], **SETTINGS))
    found, _ = found_in(ours, plain)
    assert torch.equal(found.blocks[1][2][0], ours.interaction[0].products.weight[1, 2, 0].detach() * torch.eye(2))
    wide = fill(Holder(embedding_layer=FeatureEmbedding(plain, 6)))
    assert found_in(wide, plain)[0] is None
    assert found_in(wide, plain, "FFMv2")[0].blocks[0][0][2].shape == (3, 6)


def test_no_blocks_without_bilinear_weights_or_if_they_do_not_fit(plain):
    model = xDeepFM_ME(plain, num_sets=2, embedding_dim=2, **SETTINGS)
    found, why = found_in(model, plain)
    assert found is None and why.startswith("the model's first interaction has no bilinear weights")
    odd = Holder(embedding_layer=FeatureEmbedding(plain, 2), crossnet=CrossNetV2(5, 2))
    found, why = found_in(odd, plain)
    assert found is None and "do not fit its fields (crossnet.cross_layers.0.weight: a cross weight of fields" in why
