"""Small FuxiCTR models of several structures, as users write them."""

import torch
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel, MultiTaskModel
from torch import nn

from fuxictr_me import MultiEmbeddingOf
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence

FIELDS = {"user": categorical(11), "item": categorical(7), "clicks": sequence(7, 3, share_embedding="item")}


FIELDS["price"] = {"source": "", "type": "numeric"}


DIM, WIDTH = 4, 16  # of one field, of all fields


class Small(BaseModel):
    """Base class: embeddings, and the constructor and forward of a FuxiCTR model."""

    def __init__(self, feature_map, model_id="Small", gpu=-1, embedding_dim=DIM, learning_rate=1e-2, **kwargs):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.build()
        self.compile("adam", "binary_crossentropy", learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.logit(e, inputs))}


class Products(nn.Module):
    """Pᵢ = (Σ w e)²: no hidden layer."""

    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(WIDTH, width)

    def forward(self, e):
        return self.layer(e).square()


class Tower(Small):
    """A model with one branch."""

    def build(self):
        width = self.feature_map.sum_emb_out_dim()
        self.dnn = MLP_Block(width, output_dim=1, hidden_units=[8, 6], dropout_rates=0.1, batch_norm=True)

    def logit(self, e, inputs):
        return self.dnn(e)


class Wide(Small):
    """Three branches that are added in place: products, a DNN, and linear terms."""

    def build(self):
        self.products, self.weights = Products(5), nn.Linear(5, 1)
        self.dnn = MLP_Block(WIDTH, output_dim=1, hidden_units=[8], batch_norm=True)
        self.linear = LogisticRegression(self.feature_map, use_bias=True)

    def logit(self, e, inputs):
        y = self.weights(self.products(e))
        y += self.dnn(e)
        y += self.linear(self.get_inputs(inputs))
        return y


class Fused(Small):
    """Two streams that go into one module."""

    class Fusion(nn.Module):
        def __init__(self):
            super().__init__()
            self.x, self.y = nn.Linear(6, 4), nn.Linear(5, 4)

        def forward(self, x, y):
            return (self.x(x) * self.y(y)).sum(dim=1, keepdim=True)

    def build(self):
        self.one, self.two = MLP_Block(WIDTH, hidden_units=[8, 6]), MLP_Block(WIDTH, hidden_units=[5])
        self.fusion = self.Fusion()

    def logit(self, e, inputs):
        return self.fusion(self.one(e), y=self.two(e))  # one as a keyword argument, which must be merged, too


class Tasks(MultiTaskModel):
    """A multi-task model: one tower per task, behind a layer for all tasks."""

    def __init__(self, feature_map, gpu=-1, embedding_dim=DIM, learning_rate=1e-2, **kwargs):
        settings = {"num_tasks": 2, "task": ["binary_classification"] * 2, "model_id": "Tasks"}
        super().__init__(feature_map, gpu=gpu, **settings, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.bottom = nn.Linear(WIDTH, 10)
        self.towers = nn.ModuleList(MLP_Block(10, output_dim=1, hidden_units=[8, 6]) for _ in range(2))
        self.compile("adam", "binary_crossentropy", learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        h = self.bottom(self.embedding_layer(self.get_inputs(inputs), flatten_emb=True))
        logits = [tower(h) for tower in self.towers]
        names = [f"{label}_pred" for label in self.feature_map.labels]
        activated = (activation(y) for activation, y in zip(self.output_activation, logits, strict=True))
        return dict(zip(names, activated, strict=True))


def make_toy_map():
    """Make the feature map of ``FIELDS``."""
    return make_feature_map(FIELDS, embedding_dim=DIM)


def settings(**more):
    return {**MODEL, "model_root": "unused", "metrics": ["AUC"], **more}


def make(backbone, feature_map, seed=0, **more):
    """Build a model whose parameters are not tiny; they depend only on the seed."""
    own = {key: value for key, value in MODEL.items() if key not in ("task", "optimizer", "loss")}
    cls = MultiEmbeddingOf(backbone) if {"num_sets", "task_sets"} & more.keys() else backbone
    model = cls(feature_map, **own, model_root="unused", metrics=["AUC"], **more)
    model._max_gradient_norm, model._batch_index = 1e9, 0
    drawn = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=drawn) * 0.3)
    return model
