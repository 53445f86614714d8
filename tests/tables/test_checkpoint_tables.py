"""Embedding tables and first-interaction blocks found in state dicts, against a walk through the models themselves."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import CrossNetMix, CrossNetV2, FeatureEmbedding, FeatureEmbeddingDict, LogisticRegression
from helpers.families import EVERY_FAMILY, build
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from torch import nn

from fuxictr_me import DCNv2_ME, Mixed_ME, MultiEmbedding, NFwFM_ME, UsageError, xDeepFM_ME
from fuxictr_me.collapse import field_tables, information_abundance, low_rank_cross_weight, random_abundance
from fuxictr_me.collapse.random_tables import DRAWN_ROWS, bartlett_factor, is_centred, random_reference
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.tables.checkpoint_blocks import first_interaction
from fuxictr_me.tables.checkpoint_tables import checkpoint_layers

INITIALIZER = partial(nn.init.normal_, std=1e-4)
SETTINGS = {**MODEL, "model_root": "unused", "embedding_initializer": "partial(nn.init.normal_, std=0.5)"}


@pytest.fixture
def every_kind(tmp_path):
    """A feature map with every kind of field that FuxiCTR knows."""
    np.savez(tmp_path / "vectors.npz", key=np.array([str(i) for i in range(1, 9)]), value=np.random.randn(8, 6))
    ids = {str(i): i for i in range(1, 9)}
    usages = ("init", "sum", "concat")
    (tmp_path / "feature_vocab.json").write_text(
        json.dumps({"other": {"a": 1}, **dict.fromkeys(usages, ids), "kept": ids})
    )
    pretrained = {"pretrained_emb": "vectors.npz", "pretrain_dim": 6, "oov_idx": 6}  # ids 7 and 8 are past it
    features = {
        "user": categorical(11),
        "price": {"source": "", "type": "numeric"},
        "history": sequence(13, 4),
        "item": categorical(13),
        "last_item": categorical(13, share_embedding="item"),
        "vector": {"source": "", "type": "embedding", "pretrain_dim": 5},
        **{usage: categorical(9, freeze_emb=False, pretrain_usage=usage, **pretrained) for usage in usages},
        "kept": categorical(9, freeze_emb=True, pretrain_usage="init", **{**pretrained, "pretrain_dim": 6}),
        "narrow": categorical(7, embedding_dim=2),
        "session": {"type": "meta"},
    }
    return make_feature_map(features, tmp_path, embedding_dim=4)


class Held(nn.Module):
    """Embedding layers under the names that FuxiCTR's models give them."""

    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


def assert_same_tables(layers, model):
    """What the names tell is what a walk through the model's layers finds."""
    expected = {(t.layer, t.field): t for t in field_tables(model)}
    found = {(t.layer, t.field): t for layer in layers for t in layer.tables}
    assert found.keys() == expected.keys()
    for key, tables in found.items():
        assert tables.exclude == expected[key].exclude
        assert (tables.initializer is None) == (expected[key].initializer is None)
        for mine, theirs in zip(tables.sets, expected[key].sets, strict=True):
            torch.testing.assert_close(mine, theirs)


def nonzero(model):
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def test_fuxictrs_layers_of_every_kind(every_kind):
    held = Held(
        embedding_layer=FeatureEmbedding(every_kind, 4),
        deep=FeatureEmbeddingDict(every_kind, 3),
        lr_layer=LogisticRegression(every_kind),
    )
    layers = checkpoint_layers(nonzero(held).state_dict(), every_kind, INITIALIZER)
    assert [layer.name for layer in layers] == ["embedding_layer", "deep"]  # the largest first; the linear term is out
    assert_same_tables(layers, held)
    assert layers[0].sharing("item") == ["item", "last_item"] and "last_item" not in {t.field for t in layers[0].tables}
    widths = {"user": [4], "price": [4], "history": [4], "item": [4], "last_item": [4], "vector": [4], "narrow": [2]}
    assert list(layers[0].widths) == [f for f in every_kind.features if f != "session"]  # the feature map's order
    assert {field: layers[0].widths[field] for field in widths} == widths


@pytest.mark.parametrize("dims", [[4], [4, 4, 4], [4, 2]])
@pytest.mark.parametrize("fused", [False, True])
def test_our_sets_of_every_kind(every_kind, dims, fused):
    held = nonzero(Held(embedding_layer=MultiEmbedding(every_kind, dims, fused=fused)))
    layers = checkpoint_layers(held.state_dict(), every_kind, INITIALIZER)
    assert [layer.num_sets for layer in layers] == [len(dims)] and layers[0].widths["user"] == dims
    assert_same_tables(layers, held)


@EVERY_FAMILY
def test_each_of_our_models(model_class):
    feature_map = make_feature_map({"user": categorical(11), "item": categorical(7), "clicks": sequence(9, 3)})
    model = build(model_class, feature_map, batch_norm=False)
    layers = checkpoint_layers(model.state_dict(), feature_map, INITIALIZER)
    assert layers[0].num_sets == 3
    assert_same_tables(layers, model)
    found, _ = first_interaction(model.state_dict(), layers)
    assert (found is not None) == (model_class in (DCNv2_ME, NFwFM_ME))


def test_shared_tables_are_one_also_where_the_file_holds_them_twice(every_kind, tmp_path):
    held = Held(embedding_layer=FeatureEmbedding(every_kind, 4))
    torch.save(held.state_dict(), tmp_path / "shared.model")
    torch.save({key: value.clone() for key, value in held.state_dict().items()}, tmp_path / "twice.model")
    for name in ("shared", "twice"):
        layer = checkpoint_layers(load_state_dict(tmp_path / f"{name}.model"), every_kind)[0]
        assert layer.table_of["last_item"] == "item"
    weights = {key: value.clone() for key, value in held.state_dict().items()}
    weights["embedding_layer.embedding_layer.embedding_layers.last_item.weight"][3] += 1
    assert checkpoint_layers(weights, every_kind)[0].table_of["last_item"] == "last_item"


def wrapped(make, num_sets):
    """Modules with the names that ``MultiEmbeddingOf`` gives: set 0 is the model itself."""
    model = make()
    model.sets = nn.ModuleDict({str(m): make() for m in range(1, num_sets)})
    return nonzero(model)


def test_the_sets_of_a_wrapped_model(every_kind):
    def make():
        layers = {"embedding_layer": FeatureEmbedding(every_kind, 4), "deep": FeatureEmbedding(every_kind, 3)}
        alone = FeatureEmbeddingDict(every_kind, 2)  # as FuxiCTR's sequence models have it, here inside a tower
        return Held(**layers, lr=LogisticRegression(every_kind), tower=Held(embedding_layer=alone))

    model = wrapped(make, 3)
    weights = model.state_dict()
    layers = checkpoint_layers(weights, every_kind, INITIALIZER)
    assert [(layer.name, layer.num_sets) for layer in layers] == [("embedding_layer", 3), ("deep", 3), ("tower", 3)]
    assert_same_tables(layers, model)
    paths = {"embedding_layer": "embedding_layer.embedding_layer", "deep": "deep.embedding_layer"}
    for layer in layers:
        path = paths.get(layer.name, "tower.embedding_layer")
        user = next(tables for tables in layer.tables if tables.field == "user")
        for m, prefix in enumerate(("", "sets.1.", "sets.2.")):
            assert torch.equal(user.sets[m], weights[f"{prefix}{path}.embedding_layers.user.weight"])
        assert layer.sharing("item") == ["item", "last_item"] and layer.widths["price"] == [user.dims[0]] * 3


def test_sets_at_the_front_without_a_partner_are_layers_of_their_own(plain):
    layer = FeatureEmbedding(plain, 2)
    held = nonzero(Held(sets=nn.ModuleList([Held(mine=layer), Held(yours=FeatureEmbedding(plain, 3))])))
    layers = checkpoint_layers(held.state_dict(), plain, INITIALIZER)
    assert [(layer.name, layer.num_sets) for layer in layers] == [("sets.1.yours", 1), ("sets.0.mine", 1)]
    assert_same_tables(layers, held)
    bare = nonzero(MultiEmbedding(plain, [2, 3]))  # its sets are at the front too
    layers = checkpoint_layers(bare.state_dict(), plain, INITIALIZER)
    assert [(layer.name, layer.num_sets) for layer in layers] == [("", 2)]
    assert_same_tables(layers, bare)


@pytest.mark.parametrize("fused", [False, True])
def test_a_wrapped_model_of_our_embedding_has_the_sets_of_all_sets(plain, fused):
    model = wrapped(lambda: Held(embedding_layer=MultiEmbedding(plain, [2, 3], fused=fused)), 2)
    weights = model.state_dict()
    (layer,) = checkpoint_layers(weights, plain, INITIALIZER)
    assert layer.num_sets == 4 and layer.widths["a"] == [2, 3, 2, 3]
    assert_same_tables([layer], model)
    names = [f"{outer}embedding_layer.sets.{m}." for outer in ("", "sets.1.") for m in (0, 1)]
    for name, table in zip(names, layer.tables[0].sets, strict=True):
        assert torch.equal(table, weights[f"{name}embedding_layer.embedding_layers.a.weight"])


class FFM(nn.Module):
    """FuxiCTR's FFM: a layer for each partner, the field itself left out."""

    def __init__(self, feature_map, dim):
        super().__init__()
        self.lr_layer = LogisticRegression(feature_map)
        self.embedding_layers = nn.ModuleList(
            FeatureEmbedding(feature_map, dim) for _ in range(feature_map.num_fields - 1)
        )


def test_ffms_tables_lie_side_by_side():
    fields = {"a": categorical(9), "b": categorical(8), "n": {"source": "", "type": "numeric"}, "c": categorical(7)}
    feature_map, dim = make_feature_map(fields), 2
    model = nonzero(FFM(feature_map, dim))
    (layer,) = checkpoint_layers(model.state_dict(), feature_map)
    assert layer.field_aware and layer.widths == {field: [3 * dim] for field in fields}
    of_b = [one.embedding_layer.embedding_layers["b"].weight for one in model.embedding_layers]
    assert torch.equal(layer.tables[1].sets[0], torch.cat(of_b, dim=1))
    found, _ = first_interaction(model.state_dict(), [layer])
    assert found.fields == ["a", "b", "n", "c"] and found.blocks[0][1][1] is None
    for j, partner in ((0, 0), (2, 1), (3, 2)):  # b's partner a has layer 0, n layer 1, c layer 2
        seen = layer.tables[1].sets[0].double() @ found.blocks[0][1][j].T
        assert torch.equal(seen.float(), of_b[partner])


def test_the_tables_of_a_wrapped_ffm_lie_side_by_side_in_each_set():
    feature_map = make_feature_map({"a": categorical(9), "b": categorical(8), "c": categorical(7)})
    model = wrapped(lambda: FFM(feature_map, 2), 2)
    (layer,) = checkpoint_layers(model.state_dict(), feature_map)
    assert layer.field_aware and layer.widths == {field: [4, 4] for field in "abc"}
    for table, one in zip(layer.tables[1].sets, (model, model.sets["1"]), strict=True):
        of_b = [partner.embedding_layer.embedding_layers["b"].weight for partner in one.embedding_layers]
        assert torch.equal(table, torch.cat(of_b, dim=1))
    found, _ = first_interaction(model.state_dict(), [layer])
    assert len(found.blocks) == 2 and found.blocks[1][0][1].shape == (2, 4)


@pytest.fixture
def plain():
    return make_feature_map({"a": categorical(9), "n": {"source": "", "type": "numeric"}, "b": categorical(7)})


def found_in(model, feature_map, name=None):
    return first_interaction(model.state_dict(), checkpoint_layers(model.state_dict(), feature_map), name)


def assert_blocks(blocks, W, dim):
    """``blocks[i][j]`` is the row block j and column block i of W."""
    for i, row in enumerate(blocks):
        for j, block in enumerate(row):
            expected = W[j * dim : (j + 1) * dim, i * dim : (i + 1) * dim]
            torch.testing.assert_close(block, expected)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_our_cross_layers(plain, weighted, shared):
    model = DCNv2_ME(plain, num_sets=3, embedding_dim=2, field_weights=weighted, shared_interaction=shared, **SETTINGS)
    nonzero(model)
    found, _ = found_in(model, plain)
    network = model.interaction[0].network.crossnet if shared else model.interaction[0].crossnet
    weights = network.weights()[0].detach()
    assert found.fields == ["a", "n", "b"] and found.layer == "embedding_layer" and len(found.blocks) == 3
    for m in range(3):
        assert_blocks(found.blocks[m], weights[0 if shared else m], 2)


def test_our_low_rank_cross_layers(plain):
    model = nonzero(DCNv2_ME(plain, num_sets=2, embedding_dim=2, use_low_rank_mixture=True, low_rank=3, **SETTINGS))
    found, _ = found_in(model, plain)
    net = model.interaction[0].crossnet
    for m in range(2):
        experts = [net.U[0][m, e] @ net.C[0][m, e] @ net.V[0][m, e].T for e in range(4)]
        assert_blocks(found.blocks[m], sum(experts).detach() / 4, 2)


def test_sets_of_groups_are_told_apart(plain):
    names = ["DNN", "DCNv2", "DCNv2", "NFwFM"]
    model = nonzero(Mixed_ME(plain, interactions=names, embedding_dim=2, hidden_units=[5, 4], **SETTINGS))
    found, _ = found_in(model, plain)
    assert found.blocks[0] is None
    cross = model.interaction[1].inner.crossnet.cross_layers[0].weight.detach()
    assert_blocks(found.blocks[1], cross[0], 2)
    assert_blocks(found.blocks[2], cross[1], 2)
    N = model.interaction[2].inner.products.weight[0].detach()
    assert torch.equal(found.blocks[3][0][2], N[0, 2] * torch.eye(2))


def test_sets_of_unequal_dimension(plain):
    model = DCNv2_ME(plain, embedding_dim=[2, 2, 3], stacked_dnn_hidden_units=[5, 4], **SETTINGS)
    found, _ = found_in(model, plain)
    for m, (group, of_group, dim) in enumerate([(0, 0, 2), (0, 1, 2), (1, 0, 3)]):
        assert_blocks(found.blocks[m], model.interaction[group].crossnet.cross_layers[0].weight[of_group].detach(), dim)


@pytest.mark.parametrize(
    "network", [partial(CrossNetV2, num_layers=2), partial(CrossNetMix, low_rank=2, num_experts=3)]
)
def test_fuxictrs_cross_layers(plain, network):
    held = nonzero(Held(embedding_layer=FeatureEmbedding(plain, 2), crossnet=network(6)))
    found, _ = found_in(held, plain)
    if isinstance(held.crossnet, CrossNetV2):
        W = held.crossnet.cross_layers[0].weight
    else:
        W = low_rank_cross_weight(*(getattr(held.crossnet, f"{name}_list")[0] for name in "UCV"))
    assert_blocks(found.blocks[0], W.detach(), 2)


def test_the_first_interaction_of_each_set_of_a_wrapped_model(plain):
    model = wrapped(lambda: Held(embedding_layer=FeatureEmbedding(plain, 2), crossnet=CrossNetV2(6, 2)), 3)
    found, _ = found_in(model, plain)
    assert found.key == "crossnet.cross_layers.0.weight" and len(found.blocks) == 3
    for blocks, one in zip(found.blocks, (model, model.sets["1"], model.sets["2"]), strict=True):
        assert_blocks(blocks, one.crossnet.cross_layers[0].weight.detach(), 2)
    fwfm = wrapped(lambda: Held(embedding_layer=FeatureEmbedding(plain, 2)), 2)
    fwfm.interaction_weight = nn.Linear(3, 1)  # of the head: there once, for all sets
    found, _ = found_in(fwfm, plain)
    for blocks in found.blocks:
        assert torch.equal(blocks[0][2], fwfm.interaction_weight.weight[0, 1].detach() * torch.eye(2))
    assert len(found.blocks) == 2


def test_field_weighted_and_field_matrixed(plain):
    fwfm = nonzero(Held(embedding_layer=FeatureEmbedding(plain, 2), interaction_weight=nn.Linear(3, 1)))
    blocks = found_in(fwfm, plain)[0].blocks[0]
    assert torch.equal(blocks[0][2], fwfm.interaction_weight.weight[0, 1].detach() * torch.eye(2))  # pairs 01, 02, 12
    assert blocks[1][1] is None
    fmfm = Held(embedding_layer=FeatureEmbedding(plain, 2), interaction_weight=nn.Parameter(torch.randn(3, 2, 2)))
    blocks = found_in(fmfm, plain)[0].blocks[0]
    assert torch.equal(blocks[1][2], fmfm.interaction_weight[2].detach().T)
    ours = nonzero(NFwFM_ME(plain, num_sets=2, embedding_dim=2, hidden_units=[5, 4], **SETTINGS))
    found, _ = found_in(ours, plain)
    assert torch.equal(found.blocks[1][2][0], ours.interaction[0].products.weight[1, 2, 0].detach() * torch.eye(2))
    wide = nonzero(Held(embedding_layer=FeatureEmbedding(plain, 6)))
    assert found_in(wide, plain)[0] is None
    assert found_in(wide, plain, "FFMv2")[0].blocks[0][0][2].shape == (3, 6)


def test_no_blocks_where_the_interaction_has_none_or_they_do_not_fit(plain):
    model = xDeepFM_ME(plain, num_sets=2, embedding_dim=2, **SETTINGS)
    found, why = found_in(model, plain)
    assert found is None and why.startswith("the model's first interaction has no bilinear weights")
    odd = Held(embedding_layer=FeatureEmbedding(plain, 2), crossnet=CrossNetV2(5, 2))
    found, why = found_in(odd, plain)
    assert found is None and "do not fit its fields (crossnet.cross_layers.0.weight: a cross weight of fields" in why


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("a"), "the checkpoint has no table of a, which the feature map has"),
        (lambda w: w.update(a=torch.zeros(8, 2)), "field 'a' does not fit: .* has 8 rows, the feature map says 9 ids"),
        (
            lambda w: w.update(z=torch.zeros(8, 2)),
            "the checkpoint embeds field 'z', which the feature map has not: a, n",
        ),
        (lambda w: w.update(a=torch.zeros(9, 2, 1)), "weight of field 'a' is no table: torch.float32 of shape"),
        (lambda w: w.update(a=torch.zeros(9, 2, dtype=torch.int64)), "weight of field 'a' is no table: torch.int64"),
    ],
)
def test_a_checkpoint_that_does_not_fit(plain, change, message):
    weights = {"a": torch.randn(9, 2), "n": torch.randn(2, 1), "b": torch.randn(7, 2)}
    change(weights)
    with pytest.raises(UsageError, match=message):
        checkpoint_layers({f"e.embedding_layer.embedding_layers.{f}.weight": w for f, w in weights.items()}, plain)


def test_a_checkpoint_of_something_else(plain):
    with pytest.raises(UsageError, match=r"no embedding layer of the fields of 'made' \(fields in it: none; in"):
        checkpoint_layers({"conv.weight": torch.zeros(3), 7: torch.zeros(1), "epoch": 3}, plain)
    sets = {
        f"e.sets.{m}.embedding_layer.embedding_layers.{f}.weight": torch.zeros(9, 2) for m, f in ((0, "a"), (1, "b"))
    }
    with pytest.raises(UsageError, match="the embedding sets of 'e' do not have the same fields"):
        checkpoint_layers(sets, plain)


@pytest.mark.parametrize("initializer", [INITIALIZER, nn.init.xavier_uniform_, partial(nn.init.uniform_, a=-1, b=1)])
def test_the_factor_of_a_tall_random_table_need_not_be_drawn_from_the_table(initializer):
    """Bartlett's factor against whole tables, also of uniform entries; IA varies by less than 1% between draws."""
    assert is_centred(initializer)
    D, dim = 20_000, 16
    drawn = [random_abundance(D, [dim], initializer, seed) for seed in range(5)]
    by_factor = [information_abundance(bartlett_factor(D, dim, seed)) for seed in range(5)]
    assert np.mean(by_factor) == pytest.approx(np.mean(drawn), rel=0.005)
    assert max(drawn) / min(drawn) < 1.02


def test_bartletts_factor_has_the_moments_of_a_gaussian_table():
    R = torch.stack([bartlett_factor(50, 3, seed) for seed in range(4_000)])
    products = R.transpose(1, 2) @ R  # E[RᵀR] = 50 I, with standard deviations √100 and √50 of one entry
    assert torch.equal(R.tril(-1), torch.zeros_like(R))
    torch.testing.assert_close(products.mean(dim=0), 50.0 * torch.eye(3, dtype=torch.float64), rtol=0, atol=0.8)
    torch.testing.assert_close(products.var(dim=0)[0], torch.tensor([100.0, 50.0, 50.0]).double(), rtol=0.1, atol=0)


def test_random_reference_draws_what_is_small_or_not_centred():
    small = random_reference(500, (3, 4), INITIALIZER)
    assert small.ia == random_abundance(500, [3, 4], INITIALIZER) and small.rms == pytest.approx(1e-4, rel=0.05)
    assert not is_centred(nn.init.orthogonal_) and not is_centred(nn.init.uniform_)
    assert not is_centred(partial(nn.init.normal_, mean=1.0))
    tall = DRAWN_ROWS + 1
    assert random_reference(tall, (4,), nn.init.uniform_).ia == random_abundance(tall, [4], nn.init.uniform_)
    assert random_reference(tall, (4,), nn.init.uniform_).ia < 2 < random_reference(tall, (4,), INITIALIZER).ia
    xavier = random_reference(tall, (4,), nn.init.xavier_normal_)
    assert xavier.rms == pytest.approx((2 / (tall + 4)) ** 0.5, rel=0.02)
