"""One table for the plain categorical fields of all embedding sets."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fuxictr_me.errors import UsageError


class FusedTable(nn.Module):
    """The tables of plain categorical fields of all sets as one, (ΣD, ΣK): one look-up per batch instead of M·F.

    A row is an id of a field; its columns are that id's embeddings in set 0, set 1, … side by side. FuxiCTR's layers
    stay where they are, and the ``weight`` of each is a view into this table. So the state dict is that of M
    ``FeatureEmbedding`` layers, fused or not, and the initialisers of these layers fill the table.

    Args:
        fields: categorical fields, one id per row of data.
        sizes: D of each field, padding row included.
        dims: K of each set.

    Attributes:
        weight: (ΣD, ΣK).
        updates: a ``RowUpdates`` that reads rows, and takes their gradients, during a fast training step (see
            ``fuxictr_me.training``), or None. Without it, reading is plain autograd.
    """

    sizes: Tensor
    first_rows: Tensor
    padding_ids: Tensor
    out_of_range: Tensor

    def __init__(self, fields: Sequence[str], sizes: Sequence[int], dims: Sequence[int]) -> None:
        super().__init__()
        self.fields, self.dims = list(fields), list(dims)
        self.rows = [slice(end - size, end) for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
        self.columns = [slice(end - dim, end) for dim, end in zip(dims, itertools.accumulate(dims), strict=True)]
        self.weight = nn.Parameter(torch.empty(sum(sizes), sum(dims)))
        self.register_buffer("sizes", torch.tensor(sizes), persistent=False)
        self.register_buffer("first_rows", torch.tensor([rows.start for rows in self.rows]), persistent=False)
        self.register_buffer("padding_ids", torch.full_like(self.sizes, -1), persistent=False)
        self.register_buffer("out_of_range", torch.zeros_like(self.sizes, dtype=torch.bool), persistent=False)
        self.updates: Any = None
        # of each set, field -> FuxiCTR's layer; inside a list, so that they are not submodules of this one
        self._layers: list[dict[str, Any]] = [{} for _ in dims]

    def absorb_set(self, m: int, embedding_dict: Any) -> None:
        """Move the tables of set ``m``, a FuxiCTR ``FeatureEmbeddingDict``, into this table."""
        for f, field in enumerate(self.fields):
            layer = self._layers[m][field] = embedding_dict.embedding_layers[field]
            if layer.padding_idx is not None:
                self.padding_ids[f] = layer.padding_idx
            self._view(m, f).copy_(self._select_rows(f, layer.weight.detach()))
            del layer.weight
            layer.register_buffer("weight", self._view(m, f))
        embedding_dict.embedding_initializer = partial(fill_as_contiguous, embedding_dict.embedding_initializer)

    def make_views(self) -> None:
        """Make the weights of FuxiCTR's layers views into the table, after it moved to another device or dtype."""
        for m, layers in enumerate(self._layers):
            for f, layer in enumerate(layers.values()):
                layer.weight = self._view(m, f)

    def drop_views(self) -> None:
        """Leave FuxiCTR's layers without weights until ``make_views`` is called."""
        for layers in self._layers:
            for layer in layers.values():
                layer.weight = None

    def forward(self, X: Mapping[str, Tensor]) -> Tensor:
        """Look up ids (B,) of all fields or some of them -> embeddings (B, F, ΣK).

        Raises:
            UsageError: for an id outside its field's table. On a GPU, ``check`` raises it later, because looking at the
                ids here would make the CPU wait.
        """
        fields = [field for field in self.fields if field in X]
        is_all = len(fields) == len(self.fields)
        present = slice(None) if is_all else [f for f, field in enumerate(self.fields) if field in X]
        ids = torch.stack([X[field] for field in fields], dim=1).long()  # (B, F)
        self._check_ids(ids, fields, present)
        return self._read(ids + self.first_rows[present], ids == self.padding_ids[present])

    def _read(self, rows: Tensor, padded: Tensor) -> Tensor:
        """Return the embeddings (B, F, ΣK) of rows (B, F); rows that are ``padded`` (B, F) get no gradient."""
        if not torch.is_grad_enabled():
            return F.embedding(rows, self.settle())
        if self.updates is not None and self.updates.reading:
            return self.updates.read(rows, padded)
        e = F.embedding(rows, self.settle())
        return torch.where(padded.unsqueeze(-1), e.detach(), e)  # FuxiCTR's padding rows get no gradient

    def settle(self) -> Tensor:
        """Apply the row updates that were put off, and return ``weight``."""
        if self.updates is not None:
            self.updates.settle()
        return self.weight

    def check(self) -> None:
        """Raise the error that ``forward`` cannot raise on a GPU.

        Raises:
            UsageError: if ids that were looked up since the last call were outside their field's table.
        """
        if self.out_of_range.any():
            bad = [field for field, is_bad in zip(self.fields, self.out_of_range.tolist(), strict=True) if is_bad]
            self.out_of_range.zero_()
            raise UsageError(f"ids past the table were read, in the fields {', '.join(bad)}")

    def _check_ids(self, ids: Tensor, fields: list[str], present: slice | list[int]) -> None:
        outside = (ids < 0) | (ids >= self.sizes[present])
        if outside.device.type != "cpu":
            self.out_of_range[present] |= outside.any(dim=0)
        elif outside.any():
            f = int(outside.any(dim=0).nonzero()[0])
            raise id_range_error(fields[f], ids[:, f], int(self.sizes[present][f]))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.make_views()  # deepcopy gives views memory of their own

    def _select_rows(self, f: int, weight: Tensor) -> Tensor:
        """Return the rows of a field's table (D, K) that this table holds: all. A sharded table holds a part."""
        return weight

    def _view(self, m: int, f: int) -> Tensor:
        return self.weight.detach()[self.rows[f], self.columns[m]]

    def _save_to_state_dict(self, *_: object) -> None:
        self.settle()  # the views are saved, each as the weight of its layer

    def _load_from_state_dict(self, *_: object) -> None:
        self.settle()  # updates that were put off must not follow the load


def arrange_by_sets(e: Tensor, columns: Sequence[slice]) -> Tensor:
    """(B, F, ΣK of all sets) -> (B, M_g, F·K) of the sets with these columns, in memory set after set.

    Batched products read it in this order.
    """
    e = e[..., columns[0].start : columns[-1].stop].unflatten(-1, (len(columns), -1))  # (B, F, M_g, K)
    return e.permute(2, 0, 1, 3).flatten(2).transpose(0, 1)


def id_range_error(field: str, ids: Tensor, size: int) -> UsageError:
    """Return the error for ids (B,) of a field whose table has ``size`` rows."""
    return UsageError(
        f"field {field!r} has ids from {int(ids.min())} to {int(ids.max())}, but its table holds 0 to {size - 1}"
    )


def find_plain_fields(embedding_dict: Any, embedding_dims: Sequence[int]) -> list[str]:
    """Return the fields of a FuxiCTR ``FeatureEmbeddingDict`` that a fused table of sets of these K can hold.

    Such a field is categorical, has dimension K in every set, no encoder, and a table that is trained, neither
    pretrained nor shared.
    """
    layers, features = embedding_dict.embedding_layers, embedding_dict._feature_map.features
    holders = [id(layer) for layer in layers.values()]
    return [
        field
        for field, layer in layers.items()
        if features[field]["type"] == "categorical"
        and type(layer) is nn.Embedding
        and layer.embedding_dim == embedding_dims[0]
        and all(features[field].get("embedding_dim", dim) == dim for dim in embedding_dims)
        and holders.count(id(layer)) == 1
        and field not in embedding_dict.feature_encoders
    ]


def unwrap_initializer(initializer: Any) -> Any:
    """Return the initialiser that ``FusedTable.absorb_set`` has wrapped, or any other unchanged."""
    return initializer.args[0] if getattr(initializer, "func", None) is fill_as_contiguous else initializer


def fill_as_contiguous(initialise: Callable[[Tensor], Tensor], tensor: Tensor) -> Tensor:
    """Fill a view with the values of a contiguous tensor: PyTorch draws other numbers, and slowly, for strided ones."""
    if tensor.is_contiguous():
        return initialise(tensor)
    with torch.no_grad():
        return tensor.copy_(initialise(torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)))
