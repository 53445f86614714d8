"""What multi-embedding must be on a model of FuxiCTR's zoo, looked at in process and in the run's checkpoint."""

import contextlib
import copy
import json
import logging
import re
import sys
from pathlib import Path

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict, LogisticRegression
from fuxictr.pytorch.torch_utils import seed_everything
from torch import nn
from zoo_models import construction, find_entries

from fuxictr_me import Callback, MultiEmbeddingOf
from fuxictr_me.errors import UsageError


class FirstWeights(Callback):
    """Keeps what a run starts from, beside its checkpoint."""

    def on_fit_start(self, model):
        torch.save(model.state_dict(), f"{model.checkpoint}.first")


def unmoved(folder):
    """Of a run with ``FirstWeights``: the tensors of further sets that stayed as they were though set 0's changed.

    A change of set 0's counts from a millionth of the largest value on: where gradients are far below the epsilon of
    Adam, 1e-8, a step is a rounding error of float32.

    Returns:
        list of str: names; empty if every set was trained, wherever set 0 was.
    """
    (checkpoint,) = Path(folder).glob("checkpoints/*/*.model")
    first, last = (torch.load(path, weights_only=True) for path in (f"{checkpoint}.first", checkpoint))
    if not all(tensor.isfinite().all() for tensor in last.values()):
        return ["not finite"]
    change = {name: relative(last[name].double(), tensor.double()) for name, tensor in first.items()}
    return [name for name in last if name.startswith("sets.") and not change[name] and change[of_set_0(name)] > 1e-6]


def of_set_0(name):
    """``sets.1.fc.weight`` -> ``fc.weight``."""
    return name.split(".", 2)[2]


class Case:
    """A model of the zoo with FuxiCTR's settings and rows, plain and with sets.

    Args:
        entry (Entry): of ``zoo_models.find_entries``.
        config (Path): of ``zoo_models.prepare``.
    """

    def __init__(self, entry, config):
        self.backbone = entry.load()
        self.feature_map, self.params, self._rows = construction(entry, config)
        for key in ("num_sets", "merge", "callbacks"):
            self.params.pop(key, None)

    def rows(self):
        """The training rows, in one batch of its own."""
        return copy.deepcopy(self._rows)

    def model(self, cls=None, **sets):
        """A model as FuxiCTR's script makes it: plain, or of ``cls`` with ``num_sets`` and what goes with it."""
        seed_everything(self.params["seed"])
        model = (cls or self.backbone)(self.feature_map, **self.params, **sets)
        model._max_gradient_norm, model._batch_index = 10.0, 0  # which fit sets
        return model

    def sets(self, num_sets, **more):
        """With sets, at the merge point that is found, or logits averaged where there is none but them.

        Raises:
            UsageError: neither.
        """
        wrapped = MultiEmbeddingOf(self.backbone)
        try:
            return self.model(wrapped, num_sets=num_sets, **more)
        except UsageError as error:
            if "merge: logits" not in str(error):
                raise
            return self.model(wrapped, num_sets=num_sets, merge="logits", **more)

    def task_loss(self, model):
        """FuxiCTR's loss of the rows, without its regularisers."""
        return model.add_loss(model(self.rows()), model.get_labels(self.rows()))


def one_set_differs(case):
    """What differs between the plain model and the one of one set, after two training steps; nothing may."""
    results = []
    for cls, sets in ((case.backbone, {}), (MultiEmbeddingOf(case.backbone), {"num_sets": 1})):
        model = case.model(cls, **sets)
        model.train()
        losses = [model.train_step(case.rows()).item() for _ in range(2)]
        results.append({"losses": losses, "random numbers": torch.get_rng_state(), **model.state_dict()})
    plain, one = results
    if list(plain) != list(one):
        return sorted({*plain} ^ {*one})
    return [name for name, value in plain.items() if not same(value, one[name])]


def same(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def without_gradient(case, model):
    """Trained parameters of any set to which the task loss leads in the plain model, but not here."""
    plain = case.model()
    for each in (plain, model):
        each.train()
        case.task_loss(each).backward()
    led = {name for name, p in plain.named_parameters() if p.grad is not None and p.grad.any()}
    own = {name: p for name, p in model.named_parameters() if p.requires_grad}
    name_of = {name: of_set_0(name) if name.startswith("sets.") else name for name in own}
    return [name for name, p in own.items() if name_of[name] in led and (p.grad is None or not p.grad.any())]


def embedding_parameters(model):
    """Number of trained parameters in feature embeddings; linear terms, of which one is enough, are none."""
    of_kind = {
        kind: {id(p): p for m in model.modules() if isinstance(m, kind) for p in m.parameters() if p.requires_grad}
        for kind in (FeatureEmbeddingDict, LogisticRegression)
    }
    tables, linear = of_kind.values()
    return sum(p.numel() for key, p in tables.items() if key not in linear)


@contextlib.contextmanager
def exact_arithmetic():
    """float64, also where FuxiCTR casts by ``.float()``, and no dropout."""
    before = torch.Tensor.float, nn.functional.dropout
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    nn.functional.dropout = lambda x, p=0.5, training=True, inplace=False: x
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float, nn.functional.dropout = before


def difference_of_equal_sets(case, num_sets, **more):
    """Equal sets against the plain model of their weights, in float64: these must be the same.

    Predictions in evaluation and in training, running statistics, and gradients: the plain model's in the head, an
    M-th of them in each set.

    Returns:
        float: the largest difference, relative to the largest value of that tensor; of a gradient that is next to
        nothing (1e-6 of the largest one), to that limit.
    """
    with exact_arithmetic():
        plain, model = case.model(), case.sets(num_sets, **more)
        random = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in plain.parameters():  # FuxiCTR's initial tables, N(0, 1e-4), would hide differences
                if p.requires_grad:
                    p.copy_(0.1 * torch.randn(p.shape, generator=random))
            source = plain.state_dict()
            for name, tensor in model.state_dict().items():
                tensor.copy_(source[of_set_0(name) if name.startswith("sets.") else name])
        differences = []
        for mode in (False, True):
            outputs = [each.train(mode)(case.rows()) for each in (plain, model)]
            tensors = [
                name for name, value in outputs[0].items() if torch.is_tensor(value) and value.is_floating_point()
            ]
            differences += [relative(*(output[name] for output in outputs)) for name in tensors]
        labels = plain.get_labels(case.rows())
        for each, output in zip((plain, model), outputs, strict=True):
            each.add_loss(output, labels).backward()
        gradients = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
        floor = 1e-6 * max(gradient.abs().max().item() for gradient in gradients.values())
        own = dict(model.named_parameters())
        for name, gradient in gradients.items():
            parts = [own[part] for part in (name, *(f"sets.{m}.{name}" for m in range(1, num_sets))) if part in own]
            of_parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parts]
            differences += [relative(gradient / len(parts), g, floor) for g in of_parts]
        statistics = dict(model.named_buffers())
        differences += [relative(b, statistics[name]) for name, b in plain.named_buffers() if b.is_floating_point()]
    return max(differences)


def always_float32(case):
    """Parameters that a model of FuxiCTR's has in float32 whatever the default is, which limits how exact it can be."""
    with exact_arithmetic():
        return [name for name, p in case.model().named_parameters() if p.dtype == torch.float32]


def relative(expected, found, floor=0.0):
    """The largest difference, relative to the largest value, or to ``floor`` if all are smaller."""
    if not expected.numel():
        return 0.0
    return (expected - found).abs().max().item() / (max(expected.abs().max().item(), floor) or 1.0)


def check(entry, config):
    """All of it.

    Returns:
        dict: ``refused`` and why, or what was found.
    """
    try:
        case = Case(entry, config)
        model = case.sets(2)
    except UsageError as error:
        return {"refused": str(error)}
    found = {
        "merge_points": [str(point) for point in model.merge_points],
        "one_set_differs": one_set_differs(case),
        "without_gradient": without_gradient(case, model),
        "embedding_parameters": embedding_parameters(model) / embedding_parameters(case.model()),
        "exact": difference_of_equal_sets(case, 2),
        "float32": always_float32(case),
    }
    if (three := case.sets(3, batched=True)).batched:
        found["exact_batched"] = difference_of_equal_sets(case, 3, batched=True)
    else:
        found["why_looped"] = re.search(r"in turn \((.*)\)", three.describe())[1]
    return found


if __name__ == "__main__":
    logging.disable(logging.INFO)
    checkout, label, config = sys.argv[1:]
    print(json.dumps(check(find_entries(checkout)[label], Path(config))))
