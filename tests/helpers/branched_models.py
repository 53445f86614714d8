"""FuxiCTR models whose branches meet in different ways, and where their sets are merged."""

import torch
from fuxictr.pytorch.layers import MLP_Block
from torch import nn

from helpers.batches import make_batch
from helpers.toy_models import DIM, WIDTH, Fused, Products, Small, Tower, Wide


class Crossed(Small):
    """Two branches that meet in the last layer; one has no hidden layer."""

    def build(self):
        self.cross = Products(5)
        self.dnn = MLP_Block(WIDTH, hidden_units=[8, 6])
        self.fc = nn.Linear(11, 1)

    def logit(self, e, inputs):
        return self.fc(torch.cat([self.cross(e), self.dnn(e)], dim=-1))


class Twice(Small):
    """A model whose head uses one layer twice."""

    def build(self):
        self.dnn, self.fc = MLP_Block(WIDTH, hidden_units=[8]), nn.Linear(8, 1)

    def logit(self, e, inputs):
        h = self.dnn(e)
        return self.fc(h) + self.fc(h.square())


class InPlaceBehind(Small):
    """A model that changes the output of a merged module in place."""

    def build(self):
        self.cross, self.dnn = Products(6), MLP_Block(WIDTH, hidden_units=[8, 6])
        self.fc = nn.Linear(6, 1)

    def logit(self, e, inputs):
        y = self.cross(e)
        y += self.dnn(e)
        return self.fc(y)


class Scaled(Crossed):
    """A model with a parameter of its own in the head, and a layer that nothing calls."""

    def build(self):
        super().build()
        self.scale, self.unused = nn.Parameter(torch.ones(1)), nn.Linear(3, 2)

    def logit(self, e, inputs):
        return self.scale * super().logit(e, inputs)


class FusedBeside(Fused):
    """The fused streams beside another branch; both meet in the last layer."""

    def build(self):
        super().build()
        self.cross, self.fc = Products(5), nn.Linear(6, 1)

    def logit(self, e, inputs):
        return self.fc(torch.cat([super().logit(e, inputs), self.cross(e)], dim=-1))


class NoHiddenLayer(Small):
    """Two branches without a hidden layer that meet in the last layer."""

    def build(self):
        self.one, self.two, self.fc = Products(5), Products(3), nn.Linear(8, 1)

    def logit(self, e, inputs):
        return self.fc(torch.cat([self.one(e), self.two(e)], dim=-1))


class ByHand(Small):
    """Hidden layers with functions instead of modules for activations."""

    def build(self):
        self.first, self.second, self.third = nn.Linear(WIDTH, 8), nn.Linear(8, 6), nn.Linear(6, 1)

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        h = torch.nn.functional.dropout(torch.relu(self.first(e)), 0.1, self.training)
        return {"y_pred": torch.sigmoid(self.third(torch.tanh(self.second(h))))}


class LeavesOut(Small):
    """A model that embeds a field on which no prediction depends."""

    def build(self):
        self.dnn = MLP_Block(WIDTH - DIM, output_dim=1, hidden_units=[8])

    def logit(self, e, inputs):
        by_field = self.embedding_layer.embedding_layer(self.get_inputs(inputs))
        return self.dnn(torch.cat([e for field, e in by_field.items() if field != "user"], dim=-1))


MERGE_POINTS = {
    Tower: [">dnn.mlp.4"],
    Wide: [">weights", ">dnn.mlp.3"],
    Crossed: ["cross>", ">dnn.mlp.2"],
    Scaled: ["cross>", ">dnn.mlp.2"],
    LeavesOut: [">dnn.mlp.2"],
    Fused: [">fusion"],
    FusedBeside: [">fusion", "cross>"],
    NoHiddenLayer: [">fc"],
    ByHand: [">second"],
    Twice: [">fc"],
    InPlaceBehind: ["cross>", ">dnn.mlp.2"],
}


def make_labelled_batch(feature_map, rows=16):
    batch = make_batch(feature_map, rows)
    batch["bought"] = 1 - batch["label"]
    return {field: values for field, values in batch.items() if field != "bought" or field in feature_map.labels}


def set_all_equal(model, single):
    """Give every set of ``model`` the weights of ``single``."""
    model.load_state_dict(single.state_dict(), strict=False)
    for part in model.sets.values():
        part.load_state_dict(single.state_dict(), strict=False)
    return model


def predict(model, batch, training=False):
    model.train(training)
    return torch.cat([y for name, y in model(batch).items() if name.endswith("pred")], dim=1)
