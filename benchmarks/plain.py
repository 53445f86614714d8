"""Multi-embedding as a user of FuxiCTR would write it: M of FuxiCTR's layers in a Python loop.

All speed is measured against this, and the models of fuxictr-me are tested equal to it. The classes use FuxiCTR
alone, its ``train_step``, ``evaluate`` and ``regularization_loss`` included. Settings have the names that fuxictr-me
gives them; the others go to FuxiCTR's ``BaseModel``, which ignores what it does not know. Activation, dropout and
batch norm are the same for all layers of an MLP. ``num_sets=1`` is FuxiCTR's own single embedding.
"""

import re

import torch
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import nn

FUXICTR_INITIALIZER = "partial(nn.init.normal_, std=1e-4)"


class PlainDNNME(BaseModel):
    """Flatten -> the first hidden layer per set -> mean -> the other hidden layers and the logit.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        num_sets (int): M.
        embedding_dim (int): K of one set.
        hidden_units (list of int): of the whole MLP; the first is the width of the projection.
        hidden_activations (str), net_dropout (float), batch_norm (bool): of the MLP.
        embedding_initializer (str): as FuxiCTR's ``FeatureEmbedding`` takes it.
        **kwargs: of FuxiCTR's ``BaseModel``; ``optimizer`` and ``loss``.
    """

    def __init__(
        self,
        feature_map,
        model_id="PlainDNNME",
        gpu=-1,
        learning_rate=1e-3,
        num_sets=4,
        embedding_dim=10,
        hidden_units=(64, 64, 64),
        hidden_activations="ReLU",
        net_dropout=0,
        batch_norm=False,
        embedding_initializer=FUXICTR_INITIALIZER,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        sets, width = range(num_sets), width_of_set(feature_map, embedding_dim)
        layers = {"hidden_activations": hidden_activations, "dropout_rates": net_dropout, "batch_norm": batch_norm}
        first, *rest = hidden_units
        self.embeddings = nn.ModuleList(
            FeatureEmbedding(feature_map, embedding_dim, embedding_initializer=embedding_initializer) for _ in sets
        )
        self.mlp1 = nn.ModuleList(MLP_Block(width, hidden_units=[first], **layers) for _ in sets)
        self.head = MLP_Block(first, hidden_units=rest, **layers)
        self.fc = nn.Linear(hidden_units[-1], 1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        """inputs: field -> (B,) or (B, L) -> {"y_pred": (B, 1)}."""
        X = self.get_inputs(inputs)
        h = [mlp1(embedding(X, flatten_emb=True)) for embedding, mlp1 in zip(self.embeddings, self.mlp1, strict=True)]
        return {"y_pred": self.output_activation(self.fc(self.head(torch.stack(h).mean(dim=0))))}


class PlainDCNv2ME(BaseModel):
    """A cross network per set -> the first hidden layer per set -> mean -> the other hidden layers and the logit.

    With ``num_sets=1`` FuxiCTR's DCNv2 of ``model_structure="stacked"``.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        num_sets (int): M.
        embedding_dim (int): K of one set.
        stacked_dnn_hidden_units (list of int): of the whole MLP; the first is the width of the projection.
        num_cross_layers (int): of the cross network.
        dnn_activations (str), net_dropout (float), batch_norm (bool): of the MLP.
        embedding_initializer (str): as FuxiCTR's ``FeatureEmbedding`` takes it.
        **kwargs: of FuxiCTR's ``BaseModel``; ``optimizer`` and ``loss``.
    """

    def __init__(
        self,
        feature_map,
        model_id="PlainDCNv2ME",
        gpu=-1,
        learning_rate=1e-3,
        num_sets=4,
        embedding_dim=10,
        stacked_dnn_hidden_units=(400, 400),
        dnn_activations="ReLU",
        num_cross_layers=4,
        net_dropout=0,
        batch_norm=False,
        embedding_initializer=FUXICTR_INITIALIZER,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        sets, width = range(num_sets), width_of_set(feature_map, embedding_dim)
        layers = {"hidden_activations": dnn_activations, "dropout_rates": net_dropout, "batch_norm": batch_norm}
        first, *rest = stacked_dnn_hidden_units
        self.embeddings = nn.ModuleList(
            FeatureEmbedding(feature_map, embedding_dim, embedding_initializer=embedding_initializer) for _ in sets
        )
        self.crossnets = nn.ModuleList(CrossNetV2(width, num_cross_layers) for _ in sets)
        self.mlp1 = nn.ModuleList(MLP_Block(width, hidden_units=[first], **layers) for _ in sets)
        self.head = MLP_Block(first, hidden_units=rest, **layers)
        self.fc = nn.Linear(stacked_dnn_hidden_units[-1], 1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        """inputs: field -> (B,) or (B, L) -> {"y_pred": (B, 1)}."""
        X = self.get_inputs(inputs)
        h = [
            mlp1(crossnet(embedding(X, flatten_emb=True)))
            for embedding, crossnet, mlp1 in zip(self.embeddings, self.crossnets, self.mlp1, strict=True)
        ]
        return {"y_pred": self.output_activation(self.fc(self.head(torch.stack(h).mean(dim=0))))}


class PlainFinalMLPME(BaseModel):
    """Two MLPs per set, without feature selection -> the mean of each over the sets -> one bilinear fusion.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        num_sets (int): M.
        embedding_dim (int): K of one set.
        mlp1_hidden_units, mlp2_hidden_units (list of int): of the two streams.
        mlp1_hidden_activations, mlp1_dropout, mlp1_batch_norm, and the same of mlp2: as of ``PlainDNNME``.
        num_heads (int): of the fusion.
        embedding_initializer (str): as FuxiCTR's ``FeatureEmbedding`` takes it.
        **kwargs: of FuxiCTR's ``BaseModel``; ``optimizer`` and ``loss``.
    """

    def __init__(
        self,
        feature_map,
        model_id="PlainFinalMLPME",
        gpu=-1,
        learning_rate=1e-3,
        num_sets=4,
        embedding_dim=10,
        mlp1_hidden_units=(400, 400),
        mlp1_hidden_activations="ReLU",
        mlp1_dropout=0,
        mlp1_batch_norm=False,
        mlp2_hidden_units=(400, 400),
        mlp2_hidden_activations="ReLU",
        mlp2_dropout=0,
        mlp2_batch_norm=False,
        num_heads=1,
        embedding_initializer=FUXICTR_INITIALIZER,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        sets, width = range(num_sets), width_of_set(feature_map, embedding_dim)
        of_mlp1 = {"hidden_activations": mlp1_hidden_activations, "dropout_rates": mlp1_dropout}
        of_mlp2 = {"hidden_activations": mlp2_hidden_activations, "dropout_rates": mlp2_dropout}
        of_mlp1 |= {"hidden_units": list(mlp1_hidden_units), "batch_norm": mlp1_batch_norm}
        of_mlp2 |= {"hidden_units": list(mlp2_hidden_units), "batch_norm": mlp2_batch_norm}
        self.embeddings = nn.ModuleList(
            FeatureEmbedding(feature_map, embedding_dim, embedding_initializer=embedding_initializer) for _ in sets
        )
        self.mlp1 = nn.ModuleList(MLP_Block(width, **of_mlp1) for _ in sets)
        self.mlp2 = nn.ModuleList(MLP_Block(width, **of_mlp2) for _ in sets)
        self.fusion = PlainFusion(mlp1_hidden_units[-1], mlp2_hidden_units[-1], num_heads)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        """inputs: field -> (B,) or (B, L) -> {"y_pred": (B, 1)}."""
        X = self.get_inputs(inputs)
        e = [embedding(X, flatten_emb=True) for embedding in self.embeddings]
        x = torch.stack([mlp1(of_set) for mlp1, of_set in zip(self.mlp1, e, strict=True)])
        y = torch.stack([mlp2(of_set) for mlp2, of_set in zip(self.mlp2, e, strict=True)])
        return {"y_pred": self.output_activation(self.fusion(x.mean(dim=0), y.mean(dim=0)))}


class PlainFusion(nn.Module):
    """w_x·x + w_y·y + Σ_head x_headᵀ W_head y_head, as FuxiCTR's FinalMLP on GitHub has it; the wheel has none.

    Args:
        x_dim, y_dim (int): widths of the streams.
        num_heads (int): parts that both are split into.
    """

    def __init__(self, x_dim, y_dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.w_x, self.w_y = nn.Linear(x_dim, 1), nn.Linear(y_dim, 1)
        self.w_xy = nn.Parameter(nn.init.xavier_normal_(torch.empty(x_dim * y_dim // num_heads, 1)))

    def forward(self, x, y):
        """(B, x_dim), (B, y_dim) -> (B, 1)."""
        head_x, head_y = (z.unflatten(1, (self.num_heads, 1, -1)) for z in (x, y))  # (B, heads, 1, ·)
        w_xy = self.w_xy.view(self.num_heads, head_x.shape[-1], -1)
        xy = (head_x @ w_xy) @ head_y.transpose(2, 3)  # (B, heads, 1, 1)
        return self.w_x(x) + self.w_y(y) + xy.sum(dim=1).squeeze(2)


def width_of_set(feature_map, embedding_dim):
    """ΣK, the width of one set with all fields side by side."""
    specs = [spec for spec in feature_map.features.values() if spec["type"] != "meta"]
    return sum(spec.get("emb_output_dim", spec.get("embedding_dim", embedding_dim)) for spec in specs)


# Of fuxictr-me -> of the plain models, where {m} stands for a set: there all sets are in one tensor.
NAMES = {
    r"embedding_layer\.sets\.(\d+)": r"embeddings.\1",
    r"interaction\.0\.crossnet": "crossnets.{m}",
    r"projection\.0\.branches\.0\.(\d+)(\.module)?": r"mlp1.{m}.mlp.\1",
    r"projection\.0\.branches\.1\.(\d+)(\.module)?": r"mlp2.{m}.mlp.\1",
    r"head\.towers\.0\.(\d+)(\.module)?": r"head.mlp.\1",
    r"head\.join\.fc": "fc",
    r"head\.join\.w_([xy])": r"fusion.w_\1",
    r"head\.join\.bilinear\.weight": "fusion.w_xy",
}


def to_plain(tensors, plain):
    """Parameters, buffers or gradients of one of fuxictr-me's models as the plain model names and shapes them.

    Args:
        tensors (dict): name in the state dict of ours -> tensor.
        plain (BaseModel): one of the above, of the same family and settings.

    Returns:
        dict: name in the plain state dict -> tensor.

    Raises:
        KeyError: a name that the plain model has not.
    """
    shapes, renamed = {name: tensor.shape for name, tensor in plain.state_dict().items()}, {}
    for name, tensor in tensors.items():
        for ours, of_plain in NAMES.items():
            name = re.sub(f"^{ours}", of_plain, name)
        if "{m}" not in name:
            renamed[name] = tensor.reshape(shapes[name])
            continue
        for m in range(len(plain.embeddings)):
            of_set = name.replace("{m}", str(m))
            is_count = tensor.dim() == 0  # of the batches that a batch norm has seen
            renamed[of_set] = tensor if is_count else tensor.reshape(-1, *shapes[of_set])[m]
    return renamed


def copy_weights(ours, plain):
    """Fill the plain model's parameters and buffers with those of ours.

    Args:
        ours (MultiEmbeddingModel): of fuxictr-me.
        plain (BaseModel): one of the above, of the same family and settings.

    Raises:
        KeyError, RuntimeError: another family or other settings.
    """
    plain.load_state_dict(to_plain(ours.state_dict(), plain))
