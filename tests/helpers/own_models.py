"""The source of a module with a user's models."""

MINE = '''
import torch
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel, MultiTaskModel

from fuxictr_me import MultiEmbedding


class WideDNN(BaseModel):
    """An MLP of the embeddings beside linear terms."""

    def __init__(self, feature_map, learning_rate=1e-3, embedding_dim=10, hidden_units=(64, 64), **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.wide = LogisticRegression(feature_map, use_bias=False)
        self.dnn = MLP_Block(feature_map.sum_emb_out_dim(), list(hidden_units), output_dim=1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        return {"y_pred": self.output_activation(self.dnn(self.embedding_layer(X, flatten_emb=True)) + self.wide(X))}


class OwnSets(BaseModel):
    """A model that is already multi-embedding and has its own num_sets."""

    def __init__(self, feature_map, num_sets=1, learning_rate=1e-3, embedding_dim=10, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = MultiEmbedding(feature_map, embedding_dim, num_sets)
        self.dnn = MLP_Block(sum(self.embedding_layer.output_dims), [8, 4], output_dim=1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.dnn(e.flatten(1)))}


class TwoTowers(MultiTaskModel):
    """One tower per task, on shared embeddings."""

    def __init__(self, feature_map, learning_rate=1e-3, embedding_dim=10, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.towers = torch.nn.ModuleList(
            MLP_Block(feature_map.sum_emb_out_dim(), [32, 16], output_dim=1) for _ in range(self.num_tasks)
        )
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        logits = [tower(e) for tower in self.towers]
        activated = [activation(logit) for activation, logit in zip(self.output_activation, logits)]
        return {f"{label}_pred": y for label, y in zip(self.feature_map.labels, activated)}


class LooksAtData(WideDNN):
    def forward(self, inputs):
        y_pred = super().forward(inputs)["y_pred"]
        return {"y_pred": y_pred, "certain": y_pred[y_pred > 0.9]}


class NoModel:
    pass
'''
