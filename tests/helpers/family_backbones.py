"""The six families with one embedding set, written as FuxiCTR models, with FuxiCTR's names of parts."""

import torch
from fuxictr.pytorch.layers import (
    CompressedInteractionNet,
    CrossNetV2,
    FeatureEmbedding,
    InnerProductInteraction,
    LogisticRegression,
    MLP_Block,
)
from fuxictr.pytorch.models import BaseModel
from torch import nn


class DNN(BaseModel):
    """An MLP of all embeddings."""

    def __init__(self, feature_map, embedding_dim, hidden_units, net_dropout, batch_norm, learning_rate, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        width = feature_map.sum_emb_out_dim()
        self.mlp = MLP_Block(width, hidden_units, output_dim=1, dropout_rates=net_dropout, batch_norm=batch_norm)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.mlp(e))}


class PNN(BaseModel):
    """IPNN: an MLP of the embeddings and the inner products of all pairs."""

    def __init__(self, feature_map, embedding_dim, hidden_units, net_dropout, batch_norm, learning_rate, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.products = InnerProductInteraction(feature_map.num_fields, output="inner_product")
        width = feature_map.sum_emb_out_dim() + self.products.interaction_units
        self.dnn = MLP_Block(width, hidden_units, output_dim=1, dropout_rates=net_dropout, batch_norm=batch_norm)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs))  # (B, F, K)
        x = torch.cat([e.flatten(1), self.products(e)], dim=1)
        return {"y_pred": self.output_activation(self.dnn(x))}


class NFwFM(BaseModel):
    """Σ_ij w_ij (e_i ⊙ e_j) over all ordered pairs, batch norm, dropout, an MLP (paper, section 5.1)."""

    def __init__(self, feature_map, embedding_dim, hidden_units, net_dropout, batch_norm, learning_rate, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.field_weights = nn.Parameter(torch.randn(feature_map.num_fields, feature_map.num_fields))
        self.norm = nn.BatchNorm1d(embedding_dim)
        self.dropout = nn.Dropout(net_dropout)
        self.dnn = MLP_Block(
            embedding_dim, hidden_units, output_dim=1, dropout_rates=net_dropout, batch_norm=batch_norm
        )
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs))
        products = torch.einsum("ij,bik,bjk->bk", self.field_weights, e, e)
        return {"y_pred": self.output_activation(self.dnn(self.dropout(self.norm(products))))}


class xDeepFM(BaseModel):
    """The logits of a linear model, a CIN and an MLP, added."""

    def __init__(
        self,
        feature_map,
        embedding_dim,
        dnn_hidden_units,
        cin_hidden_units,
        net_dropout,
        batch_norm,
        learning_rate,
        **kwargs,
    ):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.lr_layer = LogisticRegression(feature_map, use_bias=False)
        self.cin = CompressedInteractionNet(feature_map.num_fields, cin_hidden_units)
        width = feature_map.sum_emb_out_dim()
        self.dnn = MLP_Block(width, dnn_hidden_units, output_dim=1, dropout_rates=net_dropout, batch_norm=batch_norm)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        e = self.embedding_layer(X)
        logit = self.lr_layer(X) + self.cin(e) + self.dnn(e.flatten(1))
        return {"y_pred": self.output_activation(logit)}


class DCNv2(BaseModel):
    """A cross network, and an MLP behind it (stacked) or beside it (parallel)."""

    def __init__(
        self,
        feature_map,
        embedding_dim,
        model_structure,
        num_cross_layers,
        stacked_dnn_hidden_units,
        parallel_dnn_hidden_units,
        net_dropout,
        batch_norm,
        learning_rate,
        **kwargs,
    ):
        super().__init__(feature_map, **kwargs)
        self.is_stacked = model_structure == "stacked"
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        width = feature_map.sum_emb_out_dim()
        self.crossnet = CrossNetV2(width, num_cross_layers)
        if self.is_stacked:
            self.stacked_dnn = MLP_Block(
                width, stacked_dnn_hidden_units, dropout_rates=net_dropout, batch_norm=batch_norm
            )
            self.fc = nn.Linear(stacked_dnn_hidden_units[-1], 1)
        else:
            self.parallel_dnn = MLP_Block(
                width, parallel_dnn_hidden_units, dropout_rates=net_dropout, batch_norm=batch_norm
            )
            self.fc = nn.Linear(width + parallel_dnn_hidden_units[-1], 1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        crossed = self.crossnet(e)
        x = self.stacked_dnn(crossed) if self.is_stacked else torch.cat([crossed, self.parallel_dnn(e)], dim=1)
        return {"y_pred": self.output_activation(self.fc(x))}


class FinalMLP(BaseModel):
    """Two MLPs of the same embeddings, without feature selection, and their bilinear fusion."""

    def __init__(
        self,
        feature_map,
        embedding_dim,
        mlp1_hidden_units,
        mlp1_dropout,
        mlp1_batch_norm,
        mlp2_hidden_units,
        mlp2_dropout,
        mlp2_batch_norm,
        num_heads,
        learning_rate,
        **kwargs,
    ):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        width = feature_map.sum_emb_out_dim()
        self.mlp1 = MLP_Block(width, mlp1_hidden_units, dropout_rates=mlp1_dropout, batch_norm=mlp1_batch_norm)
        self.mlp2 = MLP_Block(width, mlp2_hidden_units, dropout_rates=mlp2_dropout, batch_norm=mlp2_batch_norm)
        self.fusion_module = Fusion(mlp1_hidden_units[-1], mlp2_hidden_units[-1], num_heads)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.fusion_module(self.mlp1(e), self.mlp2(e)))}


class Fusion(nn.Module):
    """w_x·x + w_y·y + Σ_head x_headᵀ W_head y_head."""

    def __init__(self, x_dim, y_dim, num_heads):
        super().__init__()
        self.w_x, self.w_y = nn.Linear(x_dim, 1), nn.Linear(y_dim, 1)
        self.w_xy = nn.Parameter(torch.randn(num_heads, x_dim // num_heads, y_dim // num_heads))

    def forward(self, x, y):
        x_heads, y_heads = (z.unflatten(1, (len(self.w_xy), -1)) for z in (x, y))  # (B, heads, ·)
        bilinear = torch.einsum("bhx,hxy,bhy->b", x_heads, self.w_xy, y_heads)
        return self.w_x(x) + self.w_y(y) + bilinear.unsqueeze(1)
