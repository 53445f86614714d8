"""The penalties of a model: which it has, whether they apply to it, and their values."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.nn.embedding_settings import ID_TYPES
from fuxictr_me.nn.penalties import (
    mutual_learning,
    norm_alignment,
    set_covariance,
    singular_value_variance,
    space_similarity,
)

if TYPE_CHECKING:  # the model's module imports this one
    from fuxictr_me.models.base import MultiEmbeddingModel

PENALTIES = (
    "norm_alignment",
    "space_similarity",
    "singular_value",
    "restricted_interaction",
    "set_covariance",
    "mutual_learning",
)
OF_REPRESENTATIONS = ("set_covariance", "mutual_learning")  # whatever the dimensions of the fields are


class Penalties:
    """Weighted penalties on the training loss.

    Args:
        options: has ``<name>_regularizer`` for each of ``PENALTIES``; weight 0 leaves one out.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        weights = {name: options[f"{name}_regularizer"] for name in PENALTIES}
        self.weights: dict[str, float] = {name: weight for name, weight in weights.items() if weight}
        self.totals: dict[str, Tensor] = {}  # name -> sum over steps, (); and "steps"

    def __bool__(self) -> bool:
        return bool(self.weights)

    @property
    def need_logits(self) -> bool:
        """Whether a penalty depends on the predictions of the sets."""
        return "mutual_learning" in self.weights

    def check(self, model: "MultiEmbeddingModel") -> None:
        """Check that every penalty has a meaning for ``model``.

        Raises:
            UsageError: with the reason why one has none.
        """
        for name in self.weights:
            if reason := _find_misfit(name, model):
                raise UsageError(f"{name}_regularizer {reason}")

    def __call__(
        self, model: "MultiEmbeddingModel", e: Sequence[Tensor], h: Tensor, logits: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute the weighted penalties of a batch.

        Args:
            model: whose interaction modules have weights.
            e: (B, M_g, ΣK) for each group of sets.
            h: (B, M, H).
            logits: of each set, (B, M, 1); given if ``need_logits``.

        Returns:
            name -> ().

        Raises:
            RunError: if embeddings are not finite, because training has diverged.
        """
        modules = _pair_weight_modules(model)
        compute: dict[str, Callable[[], Tensor]] = {
            "norm_alignment": lambda: norm_alignment(torch.cat([module.field_pair_norms() for module in modules])),
            "space_similarity": lambda: space_similarity(torch.cat([_separate_fields(model, z) for z in e], dim=1)),
            "singular_value": lambda: _mean_over_sets(
                [singular_value_variance(_separate_fields(model, z)) for z in e], model.groups
            ),
            "restricted_interaction": lambda: sum(module.distance_from_orthogonal() for module in modules),
            "set_covariance": lambda: set_covariance(h),
            "mutual_learning": lambda: mutual_learning(cast(Tensor, logits)),
        }
        try:
            return {name: weight * compute[name]() for name, weight in self.weights.items()}
        except torch.linalg.LinAlgError as error:
            names = ", ".join(f"{name}_regularizer {weight:g}" for name, weight in self.weights.items())
            raise RunError(f"{names}: the embeddings are not finite: training has diverged") from error

    def add_to_totals(self, penalties: Mapping[str, Tensor]) -> None:
        """Add a step's penalties to the totals, on their device and in place, so that the step can be replayed."""
        for name, value in {**penalties, "steps": torch.ones_like(next(iter(penalties.values())))}.items():
            if name not in self.totals or self.totals[name].device != value.device:
                self.totals[name] = torch.zeros_like(value, dtype=torch.float64)
            self.totals[name] += value.detach()

    def pop_means(self) -> dict[str, float]:
        """Return the mean of each penalty over the steps since the last call, and reset the totals."""
        totals = {name: float(total) for name, total in self.totals.items()}
        steps = totals.pop("steps", 0)
        for total in self.totals.values():
            total.zero_()
        return {name: total / steps for name, total in totals.items()} if steps else {}


def _find_misfit(name: str, model: "MultiEmbeddingModel") -> str | None:
    """Return the reason why a penalty has no meaning for a model, or None."""
    embedding = model.embedding_layer
    if name in ("norm_alignment", "space_similarity", "set_covariance") and model.num_sets == 1:
        return "compares sets, and there is one"
    if name == "norm_alignment" and model.shared_interaction:
        return "compares the interaction modules of the sets, which share one"
    if name == "norm_alignment" and not _all_have(model, "field_pair_norms"):
        return f"needs a weight for each pair of fields, which {_interaction_names(model)} does not have"
    if name == "restricted_interaction" and not _all_have(model, "distance_from_orthogonal"):
        return f"needs full-matrix cross layers, which {_interaction_names(model)} does not have"
    if name == "space_similarity" and len(set(embedding.output_dims)) > 1:
        return f"needs sets of one dimension, got {embedding.embedding_dims}"
    if name == "singular_value" and max(embedding.embedding_dims) == 1:
        return "compares the directions of an embedding, and there is one"
    if name == "mutual_learning" and type(model).logit.__qualname__ != "MultiEmbeddingModel.logit":
        return f"needs the logit of each set: {type(model).__name__} must define set_logits instead of logit"
    if name not in OF_REPRESENTATIONS and any(len(set(fields.values())) > 1 for fields in embedding.field_dims):
        return f"needs fields of one dimension, got {sorted(set(embedding.field_dims[0].values()))}"
    if name in ("space_similarity", "singular_value") and not _id_fields(model):
        return "needs categorical or sequence fields, and there is none"
    return None


def _id_fields(model: "MultiEmbeddingModel") -> list[int]:
    """Return the positions of the categorical and sequence fields, whose embeddings have more than one direction."""
    features = model.feature_map.features
    return [i for i, field in enumerate(model.embedding_layer.field_dims[0]) if features[field]["type"] in ID_TYPES]


def _separate_fields(model: "MultiEmbeddingModel", e: Tensor) -> Tensor:
    """Separate the ``_id_fields`` of a group of sets: (B, M_g, ΣK) -> (B, M_g, F, K)."""
    return e.unflatten(-1, (len(model.embedding_layer.field_dims[0]), -1))[:, :, _id_fields(model)]


def _pair_weight_modules(model: "MultiEmbeddingModel") -> list[Any]:
    """Return the modules with weights between fields, one for each group: cross networks or interaction modules."""
    modules = []
    for module in model.interaction:
        for inner in ("network", "inner", "crossnet"):  # of SharedBySets, OneBranch, CrossedFields
            module = getattr(module, inner, module)
        modules.append(module)
    return modules


def _all_have(model: "MultiEmbeddingModel", method: str) -> bool:
    return all(hasattr(module, method) for module in _pair_weight_modules(model))


def _interaction_names(model: "MultiEmbeddingModel") -> str:
    return " or ".join(sorted({type(module).__name__ for module in _pair_weight_modules(model)}))


def _mean_over_sets(values: Sequence[Tensor], groups: Sequence[slice]) -> Tensor:
    """Return the mean over sets of values that are means over the sets of each group."""
    sizes = [group.stop - group.start for group in groups]
    return sum(size * value for size, value in zip(sizes, values, strict=True)) / sum(sizes)
