"""The fused table has the numbers, names and gradients of the M · F tables in FuxiCTR's layers."""

import copy
import io

import pytest
import torch
from helpers.batches import inputs_of, make_batch
from helpers.families import EVERY_FAMILY, build
from helpers.feature_maps import categorical, make_feature_map, sequence
from helpers.models import gradients

from fuxictr_me import DNN_ME, DCNv2_ME, FinalMLP_ME, MultiEmbedding, UsageError
from fuxictr_me.collapse.random_tables import is_centred
from fuxictr_me.tables import abundance_of_sets, find_tables


def pair(feature_map, dims=4, num_sets=3, **settings):
    """A fused layer and a plain one, initialised with the same random numbers."""
    layers = []
    for fused in (True, False):
        torch.manual_seed(5)
        layers.append(MultiEmbedding(feature_map, dims, num_sets, fused=fused, **settings))
    return layers


def assert_same_weights(fused, plain):
    mine, theirs = fused.state_dict(), plain.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("dims, num_sets", [(4, 1), (4, 3), ([3, 5, 3], None)])
@pytest.mark.parametrize("initializer", ["partial(nn.init.normal_, std=1e-4)", "nn.init.xavier_normal_", "paper"])
def test_initial_weights_and_their_names_are_the_same(every_kind, dims, num_sets, initializer):
    features = {name: spec for name, spec in every_kind.features.items() if name not in ("vector", "frozen", "pre")}
    feature_map = make_feature_map({**features, "own": categorical(6, embedding_dim=2)})
    fused, plain = pair(feature_map, dims, num_sets, embedding_initializer=initializer)
    assert fused.table.fields == ["user"] and plain.table is None
    assert_same_weights(fused, plain)


@pytest.mark.parametrize("num_sets", [1, 3])
def test_look_ups_of_every_kind_of_field_are_the_same(every_kind, num_sets):
    fused, plain = pair(every_kind, 4, num_sets)
    assert fused.table.fields == ["user"]  # item is shared, pre and frozen are pretrained
    X = inputs_of(every_kind)
    assert torch.equal(fused(X), plain(X))
    assert torch.equal(fused(X, flatten_emb=True), plain(X, flatten_emb=True))
    for kind in (["categorical"], ["sequence", "numeric"]):
        assert torch.equal(fused(X, feature_type=kind), plain(X, feature_type=kind))
    fewer = {field: X[field] for field in ("price", "item", "user")}
    assert torch.equal(fused(fewer), plain(fewer))
    without = {field: X[field] for field in ("price", "item")}
    assert torch.equal(fused(without), plain(without))


def test_look_ups_by_group_are_the_same(plain_map):
    fused, plain = pair(plain_map, [3, 3, 5, 5], None)
    X, groups = inputs_of(plain_map), [slice(0, 2), slice(2, 4)]
    for mine, theirs in zip(fused.look_up_groups(X, groups), plain.look_up_groups(X, groups), strict=True):
        assert torch.equal(mine, theirs)
    sources = make_feature_map({"a": {**categorical(4), "source": "user"}, "b": {**categorical(5), "source": "item"}})
    fused, plain = pair(sources)
    X = inputs_of(sources)
    assert torch.equal(fused(X, feature_source="item"), plain(X, feature_source="item"))
    assert fused(X, feature_source="item").shape == (32, 3, 1, 4)


def test_gradients_are_the_same_and_padding_rows_have_none(plain_map):
    fused, plain = pair(plain_map, [3, 4], None)
    X = {field: x % 3 for field, x in inputs_of(plain_map).items()}  # padding ids among them
    for layer in (fused, plain):
        weighted = [(e * torch.arange(1.0, e.shape[-1] + 1) * (m + 1)).sin() for m, e in enumerate(layer.per_set(X))]
        sum(e.sum() for e in weighted).backward()
    whole = fused.table.weight.grad
    for m, columns in enumerate(fused.table.columns):
        for field, rows in zip(fused.table.fields, fused.table.rows, strict=True):
            expected = plain.sets[m].embedding_layer.embedding_layers[field].weight.grad
            torch.testing.assert_close(whole[rows, columns], expected, rtol=1e-6, atol=1e-9)
            assert expected[1:].abs().sum() > 0 and expected[0].abs().sum() == 0


@EVERY_FAMILY
def test_checkpoints_can_be_exchanged_in_both_directions(plain_map, model_class):
    fused, plain = (build(model_class, plain_map, fused_embedding=choice) for choice in (True, False))
    batch = make_batch(plain_map)
    for source, target in ((fused, plain), (plain, fused)):
        file = io.BytesIO()
        torch.save(source.state_dict(), file)
        file.seek(0)
        for parameter in target.parameters():
            parameter.data.add_(1)
        target.load_state_dict(torch.load(file, weights_only=True))
        assert_same_weights(source, target)
        assert torch.equal(source.eval()(batch)["y_pred"], target.eval()(batch)["y_pred"])
    assert fused.num_parameters() == plain.num_parameters()
    assert fused.num_parameters(count_embedding=False) == plain.num_parameters(count_embedding=False)


def test_a_saved_fused_table_is_not_larger_than_its_tables(plain_map):
    feature_map = make_feature_map({"a": categorical(3000), "b": categorical(2000)})
    sizes = []
    for layer in pair(feature_map):
        file = io.BytesIO()
        torch.save(layer.state_dict(), file)
        sizes.append(len(file.getvalue()))
    assert sizes[0] < 1.05 * sizes[1]


def test_views_follow_the_table_to_another_dtype_and_into_copies(plain_map):
    layer, _ = pair(plain_map)
    for moved in (layer.double(), copy.deepcopy(layer)):
        assert moved.table.weight.dtype == torch.float64
        with torch.no_grad():
            moved.table.weight.fill_(7)
        assert all((table == 7).all() for tables in moved.tables().values() for table in tables)
        assert all(table.dtype == torch.float64 for tables in moved.tables().values() for table in tables)
        own = moved.sets[1].embedding_layer.embedding_layers["item"].weight
        own.fill_(3)  # what a checkpoint or FuxiCTR's init_weights does
        rows = moved.table.rows[moved.table.fields.index("item")]
        assert (moved.table.weight[rows, moved.table.columns[1]] == 3).all()
    assert (layer.table.weight == 7).any() and (
        copy.deepcopy(layer).table.weight.data_ptr() != layer.table.weight.data_ptr()
    )


def test_find_tables_finds_the_same_tables_and_initializers(plain_map):
    """The initializers allow the random reference of a tall table without drawing the table."""
    models = [build(DCNv2_ME, plain_map, fused_embedding=choice) for choice in (True, False)]
    models[1].load_state_dict(models[0].state_dict())
    mine, theirs = (find_tables(model) for model in models)
    assert [tables.field for tables in mine] == [tables.field for tables in theirs] == list(plain_map.features)
    for a, b in zip(mine, theirs, strict=True):
        assert a.exclude == b.exclude and abundance_of_sets(a) == abundance_of_sets(b)
        assert is_centred(a.initializer) and is_centred(b.initializer)


@pytest.mark.parametrize("regularizer", [0.2, "l1(0.2)", "l1_l2(0.2,0.1)"])
def test_regularisers_count_the_same_parameters(every_kind, regularizer):
    settings = {"embedding_regularizer": regularizer, "net_regularizer": 0.3}
    fused, plain = (build(DNN_ME, every_kind, fused_embedding=choice, **settings) for choice in (True, False))
    plain.load_state_dict(fused.state_dict())
    torch.testing.assert_close(fused.regularization_loss(), plain.regularization_loss(), rtol=1e-6, atol=0)
    for model in (fused, plain):
        model.regularization_loss().backward()
    mine, theirs = gradients(fused), gradients(plain)
    assert mine.keys() == theirs.keys()
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("bad", [7, -1])
@pytest.mark.parametrize("training", [True, False])
def test_an_id_outside_its_field_is_refused_rather_than_read_from_the_next(plain_map, bad, training):
    model = build(FinalMLP_ME, plain_map).train(training)
    batch = make_batch(plain_map)
    batch["item"][3] = bad  # place follows item in the table
    with pytest.raises(UsageError, match=rf"'item' has ids from .*{bad}.* holds 0 to 6"):
        model(batch)


def test_ids_may_have_any_dtype(plain_map):
    layer, _ = pair(plain_map)
    X = inputs_of(plain_map)
    expected = layer(X)
    for dtype in (torch.int32, torch.uint8, torch.float64):  # FuxiCTR's loaders give float64 where a column is a float
        assert torch.equal(layer({field: x.to(dtype) for field, x in X.items()}), expected)
    dtypes = {"user": torch.int32, "item": torch.uint8, "place": torch.int64}
    mixed = {field: x.to(dtypes[field]) for field, x in X.items()}
    assert torch.equal(layer(mixed), expected)


def test_without_plain_fields_there_is_no_fused_table():
    layer = MultiEmbedding(make_feature_map({"clicks": sequence(5, 3)}), 4, 2, fused=True)
    assert layer.table is None
    single = pair(make_feature_map({"user": categorical(5, padding_idx=None)}), 4, 2)
    assert single[0].table.padding_ids.tolist() == [-1]
    assert_same_weights(*single)
