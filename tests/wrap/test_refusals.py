"""Models that cannot have several sets are refused with a reason."""

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel
from helpers.branched_models import Crossed, make_labelled_batch
from helpers.toy_models import WIDTH, Small, Tower, Wide, make
from torch import nn

from fuxictr_me import DNN_ME, MultiEmbeddingOf, RunError, UsageError
from fuxictr_me.config.training_settings import check_model_settings


class BypassesDNN(Tower):
    def logit(self, e, inputs):
        return self.dnn(e) + e.sum(dim=1, keepdim=True)


class ReusesHeadInput(Crossed):
    """A model that uses the input of the head also beside the head: the same tensor."""

    def logit(self, e, inputs):
        h = torch.cat([self.cross(e), self.dnn(e)], dim=-1)
        return self.fc(h) + h.sum(dim=1, keepdim=True)


class UsesDetached(Crossed):
    def logit(self, e, inputs):
        return super().logit(e, inputs) + e.detach().sum(dim=1, keepdim=True)


class ChoosesByIndex(Crossed):
    def logit(self, e, inputs):
        return super().logit(e, inputs) * e.argmax(dim=1, keepdim=True)


class OneAfterTheOther(Small):
    """A model that uses one module without weights twice, one call behind the other."""

    def build(self):
        self.first, self.second, self.fc = nn.Linear(WIDTH, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.activation = nn.ReLU()

    def logit(self, e, inputs):
        return self.fc(self.activation(self.second(self.activation(self.first(e)))))


class Tied(Small):
    """A model with one layer both before and behind a merge point."""

    def build(self):
        self.layer, self.middle, self.fc = nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)

    def logit(self, e, inputs):
        return self.fc(torch.relu(self.layer(self.middle(self.layer(e)))))


class NoHead(Small):
    def build(self):
        pass

    def logit(self, e, inputs):
        return e.sum(dim=1, keepdim=True)


class LinearBeside(Small):
    """A model with linear terms, which are no head: nothing lies behind the sum."""

    def build(self):
        self.products, self.linear = nn.Flatten(), LogisticRegression(self.feature_map)

    def logit(self, e, inputs):
        return self.products(e).square().sum(dim=1, keepdim=True) + self.linear(self.get_inputs(inputs))


class Branches(Tower):
    def logit(self, e, inputs):
        return self.dnn(e if e.mean() > 0 else -e)


class CatchesAll(Tower):
    def logit(self, e, inputs):
        try:
            return self.dnn(e)
        except:  # noqa: E722
            return self.dnn(e)


class CatchesErrors(Tower):
    def logit(self, e, inputs):
        try:
            return self.dnn(e)
        except Exception:  # noqa: BLE001
            return self.dnn(torch.zeros_like(e))


class DiffersInEvaluation(Crossed):
    def logit(self, e, inputs):
        return super().logit(e, inputs) if self.training else self.fc(torch.cat([e[:, :5], self.dnn(e)], dim=-1))


class ChangesInput(Small):
    """A model whose head changes its input in place, and that reads the input again."""

    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 1)

        def forward(self, h):
            h.mul_(2.0)
            return self.fc(h)

    def build(self):
        self.dnn, self.head = MLP_Block(WIDTH, hidden_units=[8]), self.InPlace()

    def logit(self, e, inputs):
        h = self.dnn(e) + 0.0
        y = self.head(h)
        return y + h.sum(dim=1, keepdim=True)


class NotDeterministic(Tower):
    """A model whose forward is different every time."""

    def logit(self, e, inputs):
        self.count = getattr(self, "count", 0) + 1
        return self.dnn(e) + self.count


class Auxiliary(Tower):
    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        return {"y_pred": self.output_activation(self.dnn(e)), "norm": e.square().mean()}

    def add_loss(self, return_dict, y_true):
        return super().add_loss(return_dict, y_true) + return_dict["norm"]


class Checkpointed(Crossed):
    def logit(self, e, inputs):
        crossed = torch.utils.checkpoint.checkpoint(self.cross, e, use_reentrant=True)
        return self.fc(torch.cat([crossed, self.dnn(e)], dim=-1))


class OwnSets(Tower):
    def build(self):
        super().build()
        self.sets = 5


class Broken(Tower):
    def logit(self, e, inputs):
        return self.dnn(e[:, 1:])


class OnlyLinear(BaseModel):
    def __init__(self, feature_map, model_id="OnlyLinear", gpu=-1, **kwargs):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        self.linear = LogisticRegression(feature_map)
        self.compile("adam", "binary_crossentropy", 1e-2)

    def forward(self, inputs):
        return {"y_pred": self.output_activation(self.linear(self.get_inputs(inputs)))}


@pytest.mark.parametrize(
    "backbone, more, message",
    [
        (BypassesDNN, {}, "no place was found"),
        (BypassesDNN, {"merge": "dnn"}, "reaches the prediction past >dnn.mlp.4: name a point in that branch, too"),
        (ReusesHeadInput, {"merge": ">fc"}, "reaches the prediction past >fc"),
        (UsesDetached, {}, "depends on embeddings past cross> and >dnn.mlp.2, where no gradient goes"),
        (ChoosesByIndex, {}, "depends on embeddings past cross> and >dnn.mlp.2, where no gradient goes"),
        (OneAfterTheOther, {"merge": "activation>"}, "depends on one that was merged before"),
        (
            Tied,
            {"merge": "middle>"},
            "layer.weight is used both before and behind middle>: it would belong to a set and",
        ),
        (Tied, {"merge": ">layer"}, "depends on one that was merged before"),
        (NoHead, {}, "no place was found.*average logits"),
        (LinearBeside, {"merge": "products>"}, "nothing trained lies behind products>: no head to share"),
        (Branches, {}, "branches on values that depend on its parameters"),
        (CatchesAll, {}, "catches every exception"),
        (DiffersInEvaluation, {}, "cross> is not passed in evaluation"),
        (ChangesInput, {"merge": ">head"}, "reaches the prediction past >head"),
        (NotDeterministic, {}, "does not predict in training what it does unmerged.*not the same twice"),
        (Auxiliary, {}, "an auxiliary loss would see only set 0"),
        (Checkpointed, {}, "cross.layer is called, but no prediction depends on its weights"),
        (OwnSets, {}, "an attribute of its own called sets"),
        (Broken, {}, r"its forward and loss fail on a batch made from the feature map \(RuntimeError.*batch= takes"),
        (OnlyLinear, {}, "no embeddings but linear terms"),
        (Tower, {"merge": "dn"}, "unknown module in merge 'dn'; did you mean 'dnn'"),
        (Tower, {"merge": 3}, "merge must be logits, a module's path like dnn, >fc or crossnet>, or a list, got 3"),
        (Tower, {"merge": []}, "merge must be logits, a module's path"),
        (Tower, {"merge": "dnn>"}, "nothing trained lies behind dnn>: no head to share"),
        (Wide, {"merge": "linear"}, "nothing that depends on embeddings passes >linear"),
        (Crossed, {"merge": ["cross>", ">fc"]}, "depends on one that was merged before"),
        (Tower, {"num_sets": None, "merge": "dnn"}, "merge: dnn says where sets are averaged: set num_sets, too"),
        (Tower, {"num_sets": 0}, "num_sets must be an integer of 1 or more, got 0"),
        (Tower, {"num_sets": True}, "num_sets must be an integer of 1 or more, got True"),
        (Tower, {"task_sets": "yes"}, "task_sets must be True or False"),
    ],
)
def test_models_that_cannot_be_merged_are_refused_in_one_line(feature_map, backbone, more, message):
    with pytest.raises(UsageError, match=message) as caught:
        make(backbone, feature_map, **{"num_sets": 2, **more})
    assert "\n" not in str(caught.value)


def test_a_forward_may_catch_its_own_errors(feature_map):
    assert make(CatchesErrors, feature_map, num_sets=2)(make_labelled_batch(feature_map))["y_pred"].shape == (16, 1)


def test_classes_that_cannot_be_wrapped_are_refused():
    with pytest.raises(UsageError, match="takes a class of FuxiCTR model, got <class"):
        MultiEmbeddingOf(nn.Linear)
    with pytest.raises(UsageError, match="DNN_ME has embedding sets already"):
        MultiEmbeddingOf(DNN_ME)
    with pytest.raises(UsageError, match="Tower_ME has embedding sets already"):
        MultiEmbeddingOf(MultiEmbeddingOf(Tower))


class OwnAggregation(Tower):
    """A model that reads an ``aggregation`` of its own."""

    def __init__(self, feature_map, aggregation="mean", **kwargs):
        super().__init__(feature_map, **kwargs)


@pytest.mark.parametrize(
    "settings",
    [{"aggregation": "confidence"}, {"aggregation": "ensemble"}, {"mutual_learning_regularizer": 0.1}],
)
@pytest.mark.parametrize("model_class", [Tower, MultiEmbeddingOf(Tower)])
def test_own_heads_are_refused_for_models_whose_sets_share_one(model_class, settings):
    (key,), required = settings, {"metrics": ["AUC"], "model_root": "unused", "verbose": 0}
    with pytest.raises(UsageError, match=f"^{key}: .* needs one of fuxictr-me's models; the sets of Tower share one"):
        check_model_settings(model_class, {**required, "num_sets": 2, **settings})
    check_model_settings(model_class, {**required, "aggregation": "mean", "mutual_learning_regularizer": 0})
    check_model_settings(OwnAggregation, {**required, "aggregation": "ensemble"})


class BranchesUnseen(Crossed):
    """A model that branches on weights in a way that the trace cannot see."""

    def logit(self, e, inputs):
        if np.asarray(e.detach()).mean() > 5:
            return self.fc(torch.cat([e[:, :5], self.dnn(e)], dim=-1))
        return super().logit(e, inputs)


def test_training_stops_if_sets_pass_different_merge_points(feature_map):
    model = make(BranchesUnseen, feature_map, num_sets=2)
    batch = make_labelled_batch(feature_map)
    model(batch)
    with torch.no_grad():
        model.sets["1"].embedding_layer.embedding_layer.embedding_layers["user"].weight.fill_(100.0)
    with pytest.raises(RunError, match=r"do not pass the same merge points in this batch: >dnn.mlp.2 \| cross>"):
        model(batch)
