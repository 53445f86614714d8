"""``MultiEmbedding`` against M of FuxiCTR's ``FeatureEmbedding``."""

import pytest
import torch
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel
from helpers.batches import inputs_of, make_batch
from helpers.feature_maps import categorical, make_feature_map, sequence

from fuxictr_me import MultiEmbedding, UsageError


def copy_weights(layer, references):
    for one_set, reference in zip(layer.sets, references, strict=True):
        one_set.load_state_dict(reference.state_dict())


@pytest.mark.parametrize("num_sets", [1, 2, 3])
def test_every_set_equals_a_fuxictr_feature_embedding(every_kind, num_sets):
    references = [FeatureEmbedding(every_kind, 4) for _ in range(num_sets)]
    layer = MultiEmbedding(every_kind, 4, num_sets)
    # the frozen table is held once, so one content for all
    for reference in references:
        reference.embedding_layer.embedding_layers["frozen"].pretrain_embedding.load_state_dict(
            references[0].embedding_layer.embedding_layers["frozen"].pretrain_embedding.state_dict()
        )
    copy_weights(layer, references)
    X = inputs_of(every_kind)
    out = layer(X)
    assert out.shape == (32, num_sets, 9, 4)
    for m, reference in enumerate(references):
        assert torch.equal(out[:, m], reference(X))
    assert torch.equal(layer(X, flatten_emb=True), out.flatten(2))
    assert layer.output_dims[0] == 36


def test_sources_and_types_filter_fields_as_in_fuxictr(every_kind):
    every_kind.features["user"]["source"] = "user"
    layer, X = MultiEmbedding(every_kind, 4, 2), inputs_of(every_kind)
    for source in ("user", ["user"]):
        assert torch.equal(layer(X, feature_source=source), layer(X)[:, :, :1])
    assert layer(X, feature_type=["sequence"]).shape == (32, 2, 2, 4)


def test_required_and_not_required_columns_select_fields(every_kind):
    assert list(MultiEmbedding(every_kind, 4, 2, required_feature_columns=["item", "user"]).field_dims[0]) == [
        "user",
        "item",
    ]
    left = MultiEmbedding(every_kind, 4, 2, not_required_feature_columns=["history", "vector"]).field_dims[0]
    assert "history" not in left and "vector" not in left and "user" in left


def test_use_features_narrows_the_sets(tmp_path):
    features = {"user": categorical(11), "item": categorical(7), "place": categorical(5)}
    narrowed = make_feature_map(features, tmp_path, use_features=["place", "user"])
    layer = MultiEmbedding(narrowed, 3, 2)
    assert list(layer.field_dims[0]) == ["place", "user"] and layer.output_dims[0] == 6


def test_a_field_can_have_its_own_dimension():
    feature_map = make_feature_map({"user": categorical(11, embedding_dim=6), "item": categorical(7)})
    layer, reference = MultiEmbedding(feature_map, 4, 2), [FeatureEmbedding(feature_map, 4) for _ in range(2)]
    copy_weights(layer, reference)
    X = inputs_of(feature_map)
    assert layer.output_dims[0] == 10
    assert torch.equal(layer(X, flatten_emb=True)[:, 1], reference[1](X, flatten_emb=True))
    with pytest.raises(UsageError, match="unequal dimensions"):
        layer(X)


def test_one_set_starts_with_the_weights_of_fuxictr(plain_map):
    torch.manual_seed(3)
    reference = FeatureEmbedding(plain_map, 4)
    torch.manual_seed(3)
    layer = MultiEmbedding(plain_map, 4, 1)
    for own, expected in zip(layer.parameters(), reference.parameters(), strict=True):
        assert torch.equal(own, expected)


def test_sets_start_differently_and_padding_rows_stay_zero(plain_map):
    layer = MultiEmbedding(plain_map, 4, 3)
    for tables in layer.tables().values():
        assert all(torch.equal(table[0], torch.zeros(4)) for table in tables)
        assert not torch.equal(tables[0], tables[1]) and not torch.equal(tables[1], tables[2])
    layer(inputs_of(plain_map)).sum().backward()
    assert all(p.grad[0].abs().sum() == 0 and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_initializers_are_written_as_in_fuxictr(plain_map):
    layer = MultiEmbedding(plain_map, 4, 2, embedding_initializer="partial(nn.init.constant_, val=0.5)")
    assert all((table[1:] == 0.5).all() and (table[0] == 0).all() for ts in layer.tables().values() for table in ts)


def test_the_paper_initializer_is_xavier_over_the_table_of_all_fields():
    features = {"user": categorical(3000), "item": categorical(1000), "last": categorical(1000, share_embedding="item")}
    whole = torch.nn.init.xavier_uniform_(torch.empty(4000, 8))
    for tables in MultiEmbedding(make_feature_map(features), 8, 2, embedding_initializer="paper").tables().values():
        for table in tables:
            assert table[1:].abs().max() <= (6 / 4008) ** 0.5 and (table[0] == 0).all()
            assert table[1:].std().item() == pytest.approx(whole.std().item(), rel=0.05)


def test_shared_field_without_its_base_is_initialised():
    # FuxiCTR leaves such a table at N(0, 1)
    feature_map = make_feature_map({"last_item": categorical(200, share_embedding="item"), "item": categorical(200)})
    tables = MultiEmbedding(feature_map, 4, 2).tables()
    assert max(table.abs().max() for table in tables["last_item"]) < 1e-2
    alone = MultiEmbedding(feature_map, 4, 2, required_feature_columns=["last_item"]).tables()
    assert max(table.abs().max() for table in alone["last_item"]) < 1e-2


def test_fields_that_share_a_table_share_it_in_every_set(every_kind):
    layer = MultiEmbedding(every_kind, 4, 2)
    for one_set in layer.sets:
        layers = one_set.embedding_layer.embedding_layers
        assert layers["last_item"] is layers["item"]
    assert "last_item" not in layer.tables() and "item" in layer.tables()


def test_frozen_pretrained_table_is_held_once(every_kind):
    layer = MultiEmbedding(every_kind, 4, 3)
    frozen = [s.embedding_layer.embedding_layers["frozen"].pretrain_embedding.weight for s in layer.sets]
    assert frozen[0] is frozen[1] is frozen[2] and not frozen[0].requires_grad
    free = [s.embedding_layer.embedding_layers["pre"].pretrain_embedding.weight for s in layer.sets]
    assert free[0] is not free[1]


def test_tables_of_pretrained_fields_contain_the_looked_up_vectors(every_kind):
    layer, X = MultiEmbedding(every_kind, 4, 2), inputs_of(every_kind)
    for field in ("pre", "frozen", "user"):
        position = list(layer.field_dims[0]).index(field)
        for m, table in enumerate(layer.tables()[field]):
            torch.testing.assert_close(table[X[field]], layer(X)[:, m, position])


class Host(BaseModel):
    """A FuxiCTR model that consists of an embedding and a linear layer."""

    def __init__(self, feature_map, embedding, **kwargs):
        kwargs = {"verbose": 0, "model_root": "unused", "metrics": ["AUC"], **kwargs}
        super().__init__(feature_map, model_id="Host", gpu=-1, **kwargs)
        self.embedding_layer = embedding
        self.fc = torch.nn.Linear(36, 1)
        self.compile("adam", "binary_crossentropy", 1e-3)

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.fc(e if e.dim() == 2 else e.mean(1)).sigmoid()}


@pytest.mark.parametrize("regularizer", [0.1, "l1(0.2)", "l1_l2(0.2,0.1)"])
def test_embedding_regularizer_counts_every_set_once(every_kind, regularizer):
    references = [FeatureEmbedding(every_kind, 4) for _ in range(2)]
    layer = MultiEmbedding(every_kind, 4, 2)
    copy_weights(layer, references)
    multi = Host(every_kind, layer, embedding_regularizer=regularizer)
    single = [Host(every_kind, reference, embedding_regularizer=regularizer) for reference in references]
    torch.testing.assert_close(
        multi.regularization_loss(), sum(m.regularization_loss() for m in single), rtol=1e-6, atol=0
    )
    network_only = Host(every_kind, layer, net_regularizer=0.1)
    expected = 0.05 * sum((p**2).sum().item() for p in network_only.fc.parameters())
    assert network_only.regularization_loss().item() == pytest.approx(expected, rel=1e-5)


def test_one_set_has_the_loss_of_fuxictr_bit_for_bit(every_kind):
    reference, layer = FeatureEmbedding(every_kind, 4), MultiEmbedding(every_kind, 4, 1)
    copy_weights(layer, [reference])
    single = Host(every_kind, reference, embedding_regularizer=0.1, net_regularizer=0.2)
    multi = Host(every_kind, layer, embedding_regularizer=0.1, net_regularizer=0.2)
    multi.fc.load_state_dict(single.fc.state_dict())
    batch = make_batch(every_kind)
    losses = [model.compute_loss(model(batch), model.get_labels(batch)) for model in (single, multi)]
    assert torch.equal(losses[0], losses[1])


def test_load_set_from_a_fuxictr_model(every_kind):
    trained = Host(every_kind, FeatureEmbedding(every_kind, 4))
    layer = MultiEmbedding(every_kind, 4, 2)
    before = layer.tables()["user"][0].clone()
    layer.load_set(1, trained.state_dict())
    X = inputs_of(every_kind)
    assert torch.equal(layer(X)[:, 1], trained.embedding_layer(X))
    assert torch.equal(layer.tables()["user"][0], before)
    layer.load_set(0, Host(every_kind, layer).state_dict())  # a checkpoint of fuxictr-me, set by set


def test_load_set_explains_a_misfit(plain_map):
    layer = MultiEmbedding(plain_map, 4, 2)
    with pytest.raises(UsageError, match="no embedding layer"):
        layer.load_set(0, {"fc.weight": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"\(11, 8\), here is \(11, 4\)"):
        layer.load_set(0, FeatureEmbedding(plain_map, 8).state_dict())
    with pytest.raises(UsageError, match="sets 0 to 1"):
        layer.load_set(2, FeatureEmbedding(plain_map, 4).state_dict())


@pytest.mark.parametrize("num_sets", [0, -1, "2", 1.0, True, None])
def test_num_sets_must_be_a_positive_integer(plain_map, num_sets):
    with pytest.raises(UsageError, match="num_sets must be an integer of 1 or more"):
        MultiEmbedding(plain_map, 4, num_sets)


def test_a_feature_map_without_fields_is_refused(plain_map):
    with pytest.raises(UsageError, match="no field to embed"):
        MultiEmbedding(make_feature_map({}), 4, 2)
    with pytest.raises(UsageError, match="no field to embed"):
        MultiEmbedding(plain_map, 4, 2, required_feature_columns=["nobody"])


def test_a_sequence_without_encoder_is_refused():
    with pytest.raises(UsageError, match="'clicks' has no feature_encoder"):
        MultiEmbedding(make_feature_map({"clicks": sequence(9, 3, feature_encoder=None)}), 4, 2)


def test_an_id_outside_the_table_is_refused_with_its_field(plain_map):
    X = inputs_of(plain_map)
    X["item"][3] = 7
    with pytest.raises(UsageError, match="field 'item' has ids from 1 to 7, but its table holds 0 to 6"):
        MultiEmbedding(plain_map, 4, 2)(X)
