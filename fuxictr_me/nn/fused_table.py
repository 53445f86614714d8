"""One table for the plain categorical fields of all embedding sets."""

import itertools
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from fuxictr_me.errors import UsageError


class FusedTable(nn.Module):
    """The tables of plain categorical fields of all sets as one, (ΣD, ΣK): one look-up a batch in place of M·F.

    A row is an id of a field; its columns are that id's embeddings in set 0, set 1, … side by side. FuxiCTR's layers
    keep their place, the ``weight`` of each is a view into this table: so the state dict is that of M
    ``FeatureEmbedding`` layers, fused or not, and what they are initialised with fills the table.

    Args:
        fields (list of str): categorical fields, one id a row of data.
        sizes (list of int): D of each field, padding row included.
        dims (list of int): K of each set.

    Attributes:
        weight (Parameter): (ΣD, ΣK).
        updates (RowUpdates or None): what reads rows, and takes their gradients, during a fast training step (see
            ``fuxictr_me.training``). Without it, reading is plain autograd.
    """

    def __init__(self, fields, sizes, dims):
        super().__init__()
        self.fields, self.dims = list(fields), list(dims)
        self.rows = [slice(end - size, end) for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
        self.columns = [slice(end - dim, end) for dim, end in zip(dims, itertools.accumulate(dims), strict=True)]
        self.weight = nn.Parameter(torch.empty(sum(sizes), sum(dims)))
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)
        self.register_buffer("first_rows", torch.tensor([rows.start for rows in self.rows]), persistent=False)
        self.register_buffer("padding_ids", torch.full_like(self.sizes, -1), persistent=False)
        self.register_buffer("out_of_range", torch.zeros_like(self.sizes, dtype=torch.bool), persistent=False)
        self.updates = None
        self._layers = [{} for _ in dims]  # of each set; a list, so that they are no submodules of this one

    def take(self, m, embedding_dict):
        """Move the tables of set ``m`` in here.

        Args:
            embedding_dict (FeatureEmbeddingDict): of FuxiCTR.
        """
        for f, field in enumerate(self.fields):
            layer = self._layers[m][field] = embedding_dict.embedding_layers[field]
            if layer.padding_idx is not None:
                self.padding_ids[f] = layer.padding_idx
            self._view(m, f).copy_(self._held(f, layer.weight.detach()))
            del layer.weight
            layer.register_buffer("weight", self._view(m, f))
        embedding_dict.embedding_initializer = partial(fill_as_contiguous, embedding_dict.embedding_initializer)

    def tie(self):
        """Make the weights of FuxiCTR's layers views into the table, after it moved to another device or dtype."""
        for m, layers in enumerate(self._layers):
            for f, layer in enumerate(layers.values()):
                layer.weight = self._view(m, f)

    def untie(self):
        """Leave FuxiCTR's layers without weights, for ``tie`` to follow."""
        for layers in self._layers:
            for layer in layers.values():
                layer.weight = None

    def forward(self, X):
        """field -> ids (B,), of all fields or some -> embeddings (B, F, ΣK).

        Raises:
            UsageError: an id past its field's table. On a GPU, which looking would stall, ``check`` tells later.
        """
        present = [f for f, field in enumerate(self.fields) if field in X]
        present = slice(None) if len(present) == len(self.fields) else present
        fields = [field for field in self.fields if field in X]
        ids = torch.stack([X[field] for field in fields], dim=1).long()  # (B, F)
        self._look_at(ids, fields, present)
        return self._read(ids + self.first_rows[present], ids == self.padding_ids[present])

    def _read(self, rows, padded):
        """The embeddings (B, F, ΣK) of rows (B, F), of which those that are ``padded`` (B, F) get no gradient."""
        if not torch.is_grad_enabled():
            return F.embedding(rows, self.settled())
        if self.updates is not None and self.updates.reading:
            return self.updates.read(rows, padded)
        e = F.embedding(rows, self.settled())
        return torch.where(padded.unsqueeze(-1), e.detach(), e)  # FuxiCTR's padding rows get no gradient

    def settled(self):
        """``weight``, after what updates were put off."""
        if self.updates is not None:
            self.updates.settle()
        return self.weight

    def check(self):
        """Raise what ``forward`` could not on a GPU, without stalling it.

        Raises:
            UsageError: ids that were looked up since the last call were past their field's table.
        """
        if self.out_of_range.any():
            bad = [field for field, is_bad in zip(self.fields, self.out_of_range.tolist(), strict=True) if is_bad]
            self.out_of_range.zero_()
            raise UsageError(f"ids past the table were read, in the fields {', '.join(bad)}")

    def _look_at(self, ids, fields, present):
        outside = (ids < 0) | (ids >= self.sizes[present])
        if outside.device.type != "cpu":
            self.out_of_range[present] |= outside.any(dim=0)
        elif outside.any():
            f = int(outside.any(dim=0).nonzero()[0])
            raise past_the_table(fields[f], ids[:, f], int(self.sizes[present][f]))

    def __setstate__(self, state):
        super().__setstate__(state)
        self.tie()  # deepcopy gives views a memory of their own

    def _held(self, f, weight):
        """The rows of a field's table (D, K) that lie in here: all."""
        return weight

    def _view(self, m, f):
        return self.weight.detach()[self.rows[f], self.columns[m]]

    def _save_to_state_dict(self, *_):
        self.settled()  # the views are saved, each as the weight of its layer

    def _load_from_state_dict(self, *_):
        self.settled()  # nothing put off may come after the load


def past_the_table(field, ids, size):
    """A UsageError for ids (B,) of a field whose table has ``size`` rows."""
    return UsageError(
        f"field {field!r} has ids from {int(ids.min())} to {int(ids.max())}, but its table holds 0 to {size - 1}"
    )


def plain_fields(embedding_dict, embedding_dim):
    """The fields of a FuxiCTR ``FeatureEmbeddingDict`` that a fused table can hold.

    Categorical, K = ``embedding_dim``, with a table that is trained, neither pretrained nor shared, and no encoder.
    """
    layers = embedding_dict.embedding_layers
    holders = [id(layer) for layer in layers.values()]
    features = embedding_dict._feature_map.features
    return [
        field
        for field, layer in layers.items()
        if features[field]["type"] == "categorical"
        and type(layer) is nn.Embedding
        and layer.embedding_dim == embedding_dim
        and holders.count(id(layer)) == 1
        and field not in embedding_dict.feature_encoders
    ]


def given_initializer(initializer):
    """The initializer that a user gave, out of what ``FusedTable.take`` made of it."""
    return initializer.args[0] if getattr(initializer, "func", None) is fill_as_contiguous else initializer


def fill_as_contiguous(initialise, tensor):
    """Fill a view as a tensor of its own would be: PyTorch draws other numbers, and slowly, for strided ones."""
    if tensor.is_contiguous():
        return initialise(tensor)
    with torch.no_grad():
        return tensor.copy_(initialise(torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)))
