"""FinalMLP, multi-embedding."""

import torch
from torch import nn

from fuxictr_me.errors import UsageError, positive_int
from fuxictr_me.interactions import SetMLP
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.towers import Projections, check_mlp


class FinalMLP_ME(MultiEmbeddingModel):
    """Two MLPs per set -> the mean of each over the sets -> one shared bilinear fusion.

    Paper, section 5.1 (FinalMLP): both streams are whole MLPs of each set, without feature selection.
    With ``num_sets=1`` this is FuxiCTR's ``FinalMLP`` with ``use_fs=False``; its feature selection is not
    there yet.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        mlp1_hidden_units, mlp2_hidden_units (list of int): of the two streams.
        mlp1_hidden_activations, mlp1_dropout, mlp1_batch_norm, and the same of mlp2: as FuxiCTR's.
        num_heads (int): the fusion splits both streams into as many parts; the paper has one.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map,
        model_id="FinalMLP_ME",
        mlp1_hidden_units=(400, 400),
        mlp1_hidden_activations="ReLU",
        mlp1_dropout=0,
        mlp1_batch_norm=False,
        mlp2_hidden_units=(400, 400),
        mlp2_hidden_activations="ReLU",
        mlp2_dropout=0,
        mlp2_batch_norm=False,
        num_heads=1,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        streams = (
            check_mlp(mlp1_hidden_units, mlp1_hidden_activations, mlp1_dropout, mlp1_batch_norm),
            check_mlp(mlp2_hidden_units, mlp2_hidden_activations, mlp2_dropout, mlp2_batch_norm),
        )
        input_dim = self.embedding_layer.output_dim
        self.projection = Projections([SetMLP(self.num_sets, input_dim, *stream) for stream in streams])
        self.head = BilinearFusion(mlp1_hidden_units[-1], mlp2_hidden_units[-1], num_heads)
        self.finish()

    def interact(self, e):
        """(B, M, ΣK) -> the same to both streams."""
        return [e, e]


class BilinearFusion(nn.Module):
    """w_x·x + w_y·y + Σ_head xᵀ W y, as FuxiCTR's ``InteractionAggregation``.

    Args:
        x_dim, y_dim (int): widths of the two streams.
        num_heads (int): each head sees its part of both.

    Raises:
        UsageError: widths that the heads do not divide.
    """

    def __init__(self, x_dim, y_dim, num_heads=1):
        super().__init__()
        positive_int("num_heads", num_heads)
        if x_dim % num_heads or y_dim % num_heads:
            raise UsageError(f"num_heads must divide the last hidden units {x_dim} and {y_dim}, got {num_heads}")
        self.widths = [x_dim, y_dim]
        self.w_x = nn.Linear(x_dim, 1)
        self.w_y = nn.Linear(y_dim, 1)
        self.w_xy = nn.Parameter(torch.empty(num_heads, x_dim // num_heads, y_dim // num_heads))

    def init_weights(self):
        """FuxiCTR's: xavier_normal over all of W as one column."""
        nn.init.xavier_normal_(self.w_xy.data.view(-1, 1))

    def init_paper_weights(self):
        """The authors' code: W starts at 0."""
        nn.init.zeros_(self.w_xy)

    def forward(self, h):
        """(B, H_x + H_y) -> (B, 1)."""
        x, y = h.split(self.widths, dim=-1)
        x_heads, y_heads = (z.unflatten(-1, (len(self.w_xy), -1)) for z in (x, y))  # (B, heads, ·)
        bilinear = torch.einsum("bhx,hxy,bhy->b", x_heads, self.w_xy, y_heads)
        return self.w_x(x) + self.w_y(y) + bilinear.unsqueeze(-1)
