"""Merge points that are named, described in the log, and separate for each task."""

import pytest
import torch
from helpers.branched_models import Crossed, make_labelled_batch, predict
from helpers.toy_models import Fused, Tasks, Tower, make

from fuxictr_me import UsageError


@pytest.fixture
def two_labels(feature_map):
    feature_map.labels = ["label", "bought"]
    return feature_map


@pytest.mark.parametrize(
    "backbone, merge, points",
    [
        (Tower, "dnn", [">dnn.mlp.4"]),
        (Tower, ">dnn.mlp.4", [">dnn.mlp.4"]),
        (Tower, "dnn.mlp.2>", ["dnn.mlp.2>"]),
        (Tower, "logits", [">output_activation"]),
        (Crossed, "fc", [">fc"]),
        (Crossed, ["cross>", "dnn"], ["cross>", ">dnn.mlp.2"]),
        (Fused, ["one", ">fusion"], None),
        (Fused, [">fusion.x", ">fusion.y"], [">fusion.x", ">fusion.y"]),
    ],
)
def test_merge_names_the_points(feature_map, backbone, merge, points):
    if points is None:
        with pytest.raises(UsageError, match="depends on one that was merged before"):
            make(backbone, feature_map, num_sets=2, merge=merge)
        return
    model = make(backbone, feature_map, num_sets=2, merge=merge)
    assert [str(point) for point in model.merge_points] == points
    assert f"Merge points: {', '.join(points)}" in model.describe()


def test_merge_logits_averages_the_logits(exact, feature_map):
    model = make(Tower, feature_map, num_sets=2, merge="logits").eval()
    batch = make_labelled_batch(feature_map)
    logits = []
    for part in (model, model.sets["1"]):
        single = make(Tower, feature_map).eval()
        single.load_state_dict({name: w for name, w in part.state_dict().items() if not name.startswith("sets.")})
        logits.append(torch.logit(predict(single, batch)))
    torch.testing.assert_close(torch.logit(predict(model, batch)), sum(logits) / 2, rtol=1e-10, atol=1e-10)


def test_the_log_describes_the_merge(feature_map, caplog):
    caplog.set_level("INFO")
    make(Crossed, feature_map, num_sets=2)
    for line in (
        "Crossed with 2 embedding sets",
        "Merge points: cross>, >dnn.mlp.2",
        "cross>: the output of cross (Products) is averaged over the sets, with no hidden layer before it",
        ">dnn.mlp.2: the input of dnn.mlp.2 (Linear) is averaged over the sets, behind a hidden layer",
        "In every set: embedding_layer, cross, dnn.mlp.0",
        "Once, behind the merge: dnn.mlp.2, fc",
        "Sets 1 ... run in turn",
    ):
        assert line in caplog.text


def test_task_sets_get_gradients_of_their_task_only(two_labels):
    """STEM: a task's loss reaches the set of all tasks and its own set only. The prediction is the mean."""
    model = make(Tasks, two_labels, task_sets=True, merge=["towers.0", "towers.1"])
    assert model.num_sets == 3
    plain = make(Tasks, two_labels, num_sets=3, merge=["towers.0", "towers.1"])
    plain.load_state_dict(model.state_dict())
    batch = make_labelled_batch(two_labels)
    assert torch.equal(predict(model, batch), predict(plain, batch))
    for task, label in enumerate(two_labels.labels, start=1):
        model.zero_grad()
        model(batch)[f"{label}_pred"].sum().backward()
        reached = [
            any(p.grad is not None and p.grad.any() for p in part.embedding_layer.parameters())
            for part in (model, *model.sets.values())
        ]
        assert reached == [True, task == 1, task == 2]


@pytest.mark.parametrize(
    "more, message",
    [
        ({"num_sets": 2}, "num_sets 3, got 2"),
        ({"merge": "towers.0"}, "reaches the prediction past >towers.0.mlp.2: name a point in that branch, too"),
        ({"merge": "bottom>"}, "bottom> leads to label_pred, bought_pred"),
    ],
)
def test_task_sets_need_a_point_for_each_task(two_labels, more, message):
    with pytest.raises(UsageError, match=message):
        make(Tasks, two_labels, task_sets=True, **more)


def test_task_sets_need_tasks(feature_map):
    with pytest.raises(UsageError, match="needs a multi-task model, which Tower_ME is not"):
        make(Tower, feature_map, task_sets=True)


def test_multi_task_models_train(two_labels, own_folder):
    model = make(Tasks, two_labels, num_sets=2)
    assert [str(point) for point in model.merge_points] == [">towers.0.mlp.2", ">towers.1.mlp.2"]
    batches = [make_labelled_batch(two_labels, 64)]
    model.fit(batches, epochs=2, validation_data=batches)
    assert set(model.evaluate(batches)) == {"label_AUC", "bought_AUC", "AUC"}
