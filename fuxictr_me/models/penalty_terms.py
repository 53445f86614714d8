"""The penalties of a model: which it has, whether they mean something there, and what they come to."""

import torch

from fuxictr_me.config.training_settings import check_weight
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.nn.penalties import norm_alignment, set_covariance, singular_value_variance, space_similarity


class Penalties:
    """Weighted penalties on the training loss, by the names of their settings without ``_regularizer``.

    Args:
        **weights (float): ``norm_alignment``, ``space_similarity``, ``singular_value``,
            ``restricted_interaction``, ``set_covariance``; 0 leaves one out.
    """

    def __init__(self, **weights):
        for name, weight in weights.items():
            check_weight(f"{name}_regularizer", weight)
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.totals = {}  # name -> Tensor (), and "steps"

    def __bool__(self):
        return bool(self.weights)

    def check(self, model):
        """Refuse a penalty that means nothing for ``model``.

        Raises:
            UsageError: one line that gives the reason.
        """
        dims = model.embedding_layer
        for name in self.weights:
            reason = None
            if name in ("norm_alignment", "space_similarity", "set_covariance") and model.num_sets == 1:
                reason = "compares sets, and there is one"
            elif name == "norm_alignment" and model.shared_interaction:
                reason = "compares the interaction modules of the sets, which share one"
            elif name == "norm_alignment" and not _has(model, "field_pair_norms"):
                reason = f"needs a weight for each pair of fields, which {_names(model)} has not"
            elif name == "restricted_interaction" and not _has(model, "distance_from_orthogonal"):
                reason = f"needs full-matrix cross layers, which {_names(model)} has not"
            elif name == "space_similarity" and len(set(dims.output_dims)) > 1:
                reason = f"needs sets of one dimension, got {dims.embedding_dims}"
            elif name == "singular_value" and max(dims.embedding_dims) == 1:
                reason = "compares the directions of an embedding, and there is one"
            elif name != "set_covariance" and any(len(set(fields.values())) > 1 for fields in dims.field_dims):
                reason = f"needs fields of one dimension, got {sorted(set(dims.field_dims[0].values()))}"
            elif name in ("space_similarity", "singular_value") and not model.id_fields:
                reason = "needs categorical or sequence fields, and there is none"
            if reason:
                raise UsageError(f"{name}_regularizer {reason}")

    def __call__(self, model, e, h):
        """Weighted penalties of a batch.

        Args:
            model (MultiEmbeddingModel)
            e (list of Tensor): (B, M, ΣK), one a group of sets.
            h (Tensor): (B, M, H).

        Returns:
            dict: name -> Tensor ().

        Raises:
            RunError: singular values of what is not finite: training has diverged.
        """
        compute = {
            "norm_alignment": lambda: norm_alignment(torch.cat([part.field_pair_norms() for part in _parts(model)])),
            "space_similarity": lambda: space_similarity(torch.cat([model.fields_apart(group) for group in e], dim=1)),
            "singular_value": lambda: _mean_of_groups(
                [singular_value_variance(model.fields_apart(group)) for group in e], model.groups
            ),
            "restricted_interaction": lambda: sum(part.distance_from_orthogonal() for part in _parts(model)),
            "set_covariance": lambda: set_covariance(h),
        }
        try:
            return {name: weight * compute[name]() for name, weight in self.weights.items()}
        except torch.linalg.LinAlgError as error:
            names = ", ".join(f"{name}_regularizer {weight:g}" for name, weight in self.weights.items())
            raise RunError(f"{names}: the embeddings are not finite: training has diverged") from error

    def note(self, penalties):
        """Remember what a step's penalties came to, on their device and in place, so that the step can be replayed."""
        for name, value in {**penalties, "steps": torch.ones_like(next(iter(penalties.values())))}.items():
            if name not in self.totals or self.totals[name].device != value.device:
                self.totals[name] = torch.zeros_like(value, dtype=torch.float64)
            self.totals[name] += value.detach()

    def take_means(self):
        """Mean of each penalty over the steps since the last call: name -> float."""
        totals = {name: float(total) for name, total in self.totals.items()}
        steps = totals.pop("steps", 0)
        for total in self.totals.values():
            total.zero_()
        return {name: total / steps for name, total in totals.items()} if steps else {}


def _parts(model):
    """What holds the weights between fields, one a group: the cross network, or else the interaction module."""
    parts = []
    for part in model.interaction:
        for inside in ("network", "inner", "crossnet"):  # of SharedBySets, OneBranch, CrossedFields
            part = getattr(part, inside, part)
        parts.append(part)
    return parts


def _has(model, method):
    return all(hasattr(part, method) for part in _parts(model))


def _names(model):
    return " or ".join(sorted({type(part).__name__ for part in _parts(model)}))


def _mean_of_groups(values, groups):
    sizes = [group.stop - group.start for group in groups]
    return sum(size * value for size, value in zip(sizes, values, strict=True)) / sum(sizes)
