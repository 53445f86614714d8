"""Embedding tables found by the names in a state dict, against a walk through the modules."""

import json

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict, LogisticRegression
from helpers.embedding_layers import FFM, INITIALIZER, Holder, assert_same_tables, fill, wrapped
from helpers.families import FAMILIES, build
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.toy_models import Tasks, Tower, Wide, make, make_toy_map
from torch import nn

from fuxictr_me import DCNv2_ME, Mixed_ME, MultiEmbedding, NFwFM_ME, UsageError
from fuxictr_me.io.checkpoints import load_state_dict
from fuxictr_me.tables import find_checkpoint_layers, find_model_layers, find_tables
from fuxictr_me.tables.first_interaction import find_first_interaction


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


@pytest.fixture
def plain():
    return make_feature_map({"a": categorical(9), "n": {"source": "", "type": "numeric"}, "b": categorical(7)})


def families_and_mixed():
    feature_map = make_feature_map({"user": categorical(11), "item": categorical(7), "clicks": sequence(9, 3)})
    for model_class in [*FAMILIES, Mixed_ME]:
        yield feature_map, build(model_class, feature_map, batch_norm=False)


def test_models_and_checkpoints_have_the_same_tables_in_all_families():
    for feature_map, model in families_and_mixed():
        layers = find_checkpoint_layers(model.state_dict(), feature_map, INITIALIZER)
        assert layers[0].num_sets == 3
        assert_same_tables(layers, model)
        assert_same_tables(find_model_layers(model), model)
        interaction, _ = find_first_interaction(model.state_dict(), layers)
        assert (interaction is not None) == (type(model) in (DCNv2_ME, NFwFM_ME, Mixed_ME))


@pytest.mark.parametrize("backbone", [Tower, Wide, Tasks])
def test_models_and_checkpoints_have_the_same_tables_in_wrapped_models(backbone):
    feature_map = make_toy_map()
    feature_map.labels = ["click", "like"] if backbone is Tasks else ["label"]
    merge = {"merge": ["towers.0", "towers.1"]} if backbone is Tasks else {}
    model = make(backbone, feature_map, num_sets=3, **merge)
    assert_same_tables(find_checkpoint_layers(model.state_dict(), feature_map, INITIALIZER), model)
    assert_same_tables(find_model_layers(model), model)
    assert [(tables.field, len(tables.sets)) for tables in find_tables(model)] == [("user", 3), ("item", 3)]


def test_models_and_checkpoints_have_the_same_tables_in_foreign_models(every_kind):
    foreign = Holder(
        embedding_layer=FeatureEmbedding(every_kind, 4),
        deep=FeatureEmbeddingDict(every_kind, 3),
        lr_layer=LogisticRegression(every_kind),
        tower=Holder(embedding_layer=FeatureEmbedding(every_kind, 2, use_sharing=False, use_pretrain=False)),
    )
    for model in (fill(foreign), fill(MultiEmbedding(every_kind, [4, 2], fused=True))):
        in_model = find_model_layers(model)
        in_checkpoint = find_checkpoint_layers(model.state_dict(), every_kind, INITIALIZER)
        assert_same_tables(in_model, model)
        assert_same_tables(in_checkpoint, model)
        assert {layer.name for layer in in_model} == {layer.name for layer in in_checkpoint}
        for layer in in_model:
            other = next(other for other in in_checkpoint if other.name == layer.name)
            assert (layer.table_of, layer.widths) == (other.table_of, other.widths)


def test_partner_tables_of_ffm_stay_apart_in_a_model():
    feature_map = make_feature_map({"a": categorical(9), "b": categorical(8), "c": categorical(7)})
    model = fill(FFM(feature_map, 2))
    assert_same_tables(find_model_layers(model), model)
    assert [layer.name for layer in find_model_layers(model)] == ["embedding_layers.0", "embedding_layers.1"]


def test_tables_know_their_initializer(plain):
    initializer = "partial(nn.init.normal_, std=0.5)"
    for fused in (True, False):
        layer = MultiEmbedding(plain, 4, 2, embedding_initializer=initializer, fused=fused)
        for tables in find_tables(layer):
            assert tables.initializer.func is nn.init.normal_ and tables.initializer.keywords == {"std": 0.5}


def test_finds_fuxictr_layers_with_every_kind_of_field(every_kind):
    held = Holder(
        embedding_layer=FeatureEmbedding(every_kind, 4),
        deep=FeatureEmbeddingDict(every_kind, 3),
        lr_layer=LogisticRegression(every_kind),
    )
    layers = find_checkpoint_layers(fill(held).state_dict(), every_kind, INITIALIZER)
    assert [layer.name for layer in layers] == ["embedding_layer", "deep"]  # the largest first; the linear term is out
    assert_same_tables(layers, held)
    assert layers[0].sharing("item") == ["item", "last_item"] and "last_item" not in {t.field for t in layers[0].tables}
    widths = {"user": [4], "price": [4], "history": [4], "item": [4], "last_item": [4], "vector": [4], "narrow": [2]}
    assert list(layers[0].widths) == [f for f in every_kind.features if f != "session"]  # the feature map's order
    assert {field: layers[0].widths[field] for field in widths} == widths


@pytest.mark.parametrize("dims", [[4], [4, 4, 4], [4, 2]])
@pytest.mark.parametrize("fused", [False, True])
def test_finds_embedding_sets_with_every_kind_of_field(every_kind, dims, fused):
    held = fill(Holder(embedding_layer=MultiEmbedding(every_kind, dims, fused=fused)))
    layers = find_checkpoint_layers(held.state_dict(), every_kind, INITIALIZER)
    assert [layer.num_sets for layer in layers] == [len(dims)] and layers[0].widths["user"] == dims
    assert_same_tables(layers, held)


def test_shared_tables_are_one_even_if_the_file_holds_them_twice(every_kind, tmp_path):
    held = Holder(embedding_layer=FeatureEmbedding(every_kind, 4))
    torch.save(held.state_dict(), tmp_path / "shared.model")
    torch.save({key: value.clone() for key, value in held.state_dict().items()}, tmp_path / "twice.model")
    for name in ("shared", "twice"):
        layer = find_checkpoint_layers(load_state_dict(tmp_path / f"{name}.model"), every_kind)[0]
        assert layer.table_of["last_item"] == "item"
    weights = {key: value.clone() for key, value in held.state_dict().items()}
    weights["embedding_layer.embedding_layer.embedding_layers.last_item.weight"][3] += 1
    assert find_checkpoint_layers(weights, every_kind)[0].table_of["last_item"] == "last_item"


def test_finds_the_sets_of_a_wrapped_model(every_kind):
    def make():
        layers = {"embedding_layer": FeatureEmbedding(every_kind, 4), "deep": FeatureEmbedding(every_kind, 3)}
        alone = FeatureEmbeddingDict(every_kind, 2)  # as FuxiCTR's sequence models have it, here inside a tower
        return Holder(**layers, lr=LogisticRegression(every_kind), tower=Holder(embedding_layer=alone))

    model = wrapped(make, 3)
    weights = model.state_dict()
    layers = find_checkpoint_layers(weights, every_kind, INITIALIZER)
    assert [(layer.name, layer.num_sets) for layer in layers] == [("embedding_layer", 3), ("deep", 3), ("tower", 3)]
    assert_same_tables(layers, model)
    paths = {"embedding_layer": "embedding_layer.embedding_layer", "deep": "deep.embedding_layer"}
    for layer in layers:
        path = paths.get(layer.name, "tower.embedding_layer")
        user = next(tables for tables in layer.tables if tables.field == "user")
        for m, prefix in enumerate(("", "sets.1.", "sets.2.")):
            assert torch.equal(user.sets[m], weights[f"{prefix}{path}.embedding_layers.user.weight"])
        assert layer.sharing("item") == ["item", "last_item"] and layer.widths["price"] == [user.dims[0]] * 3


def test_modules_called_sets_are_separate_layers_if_set_0_has_no_such_path(plain):
    layer = FeatureEmbedding(plain, 2)
    held = fill(Holder(sets=nn.ModuleList([Holder(mine=layer), Holder(yours=FeatureEmbedding(plain, 3))])))
    layers = find_checkpoint_layers(held.state_dict(), plain, INITIALIZER)
    assert [(layer.name, layer.num_sets) for layer in layers] == [("sets.1.yours", 1), ("sets.0.mine", 1)]
    assert_same_tables(layers, held)
    bare = fill(MultiEmbedding(plain, [2, 3]))  # its sets are at the front too
    layers = find_checkpoint_layers(bare.state_dict(), plain, INITIALIZER)
    assert [(layer.name, layer.num_sets) for layer in layers] == [("", 2)]
    assert_same_tables(layers, bare)


@pytest.mark.parametrize("fused", [False, True])
def test_a_wrapped_multi_embedding_has_the_sets_of_all_sets(plain, fused):
    model = wrapped(lambda: Holder(embedding_layer=MultiEmbedding(plain, [2, 3], fused=fused)), 2)
    weights = model.state_dict()
    (layer,) = find_checkpoint_layers(weights, plain, INITIALIZER)
    assert layer.num_sets == 4 and layer.widths["a"] == [2, 3, 2, 3]
    assert_same_tables([layer], model)
    names = [f"{outer}embedding_layer.sets.{m}." for outer in ("", "sets.1.") for m in (0, 1)]
    for name, table in zip(names, layer.tables[0].sets, strict=True):
        assert torch.equal(table, weights[f"{name}embedding_layer.embedding_layers.a.weight"])


def test_ffm_tables_lie_side_by_side():
    fields = {"a": categorical(9), "b": categorical(8), "n": {"source": "", "type": "numeric"}, "c": categorical(7)}
    feature_map, dim = make_feature_map(fields), 2
    model = fill(FFM(feature_map, dim))
    (layer,) = find_checkpoint_layers(model.state_dict(), feature_map)
    assert layer.field_aware and layer.widths == {field: [3 * dim] for field in fields}
    of_b = [one.embedding_layer.embedding_layers["b"].weight for one in model.embedding_layers]
    assert torch.equal(layer.tables[1].sets[0], torch.cat(of_b, dim=1))
    found, _ = find_first_interaction(model.state_dict(), [layer])
    assert found.fields == ["a", "b", "n", "c"] and found.blocks[0][1][1] is None
    for j, partner in ((0, 0), (2, 1), (3, 2)):  # b's partner a has layer 0, n layer 1, c layer 2
        seen = layer.tables[1].sets[0].double() @ found.blocks[0][1][j].T
        assert torch.equal(seen.float(), of_b[partner])


def test_wrapped_ffm_tables_lie_side_by_side_in_each_set():
    feature_map = make_feature_map({"a": categorical(9), "b": categorical(8), "c": categorical(7)})
    model = wrapped(lambda: FFM(feature_map, 2), 2)
    (layer,) = find_checkpoint_layers(model.state_dict(), feature_map)
    assert layer.field_aware and layer.widths == {field: [4, 4] for field in "abc"}
    for table, one in zip(layer.tables[1].sets, (model, model.sets["1"]), strict=True):
        of_b = [partner.embedding_layer.embedding_layers["b"].weight for partner in one.embedding_layers]
        assert torch.equal(table, torch.cat(of_b, dim=1))
    found, _ = find_first_interaction(model.state_dict(), [layer])
    assert len(found.blocks) == 2 and found.blocks[1][0][1].shape == (2, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("a"), "the checkpoint has no table of a, which the feature map has"),
        (lambda w: w.update(a=torch.zeros(8, 2)), "field 'a' does not fit: .* has 8 rows, the feature map says 9 ids"),
        (
            lambda w: w.update(z=torch.zeros(8, 2)),
            "the checkpoint embeds field 'z', which the feature map lacks: a, n",
        ),
        (lambda w: w.update(a=torch.zeros(9, 2, 1)), "weight of field 'a' is no table: torch.float32 of shape"),
        (lambda w: w.update(a=torch.zeros(9, 2, dtype=torch.int64)), "weight of field 'a' is no table: torch.int64"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(plain, change, message):
    weights = {"a": torch.randn(9, 2), "n": torch.randn(2, 1), "b": torch.randn(7, 2)}
    change(weights)
    with pytest.raises(UsageError, match=message):
        find_checkpoint_layers({f"e.embedding_layer.embedding_layers.{f}.weight": w for f, w in weights.items()}, plain)


def test_a_checkpoint_without_embedding_layers_is_refused(plain):
    with pytest.raises(UsageError, match=r"no embedding layer of the fields of 'made' \(fields in it: none; in"):
        find_checkpoint_layers({"conv.weight": torch.zeros(3), 7: torch.zeros(1), "epoch": 3}, plain)
    sets = {
        f"e.sets.{m}.embedding_layer.embedding_layers.{f}.weight": torch.zeros(9, 2) for m, f in ((0, "a"), (1, "b"))
    }
    with pytest.raises(UsageError, match="the embedding sets of 'e' do not have the same fields"):
        find_checkpoint_layers(sets, plain)
