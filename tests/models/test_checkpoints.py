"""Checkpoints of models: saved atomically, loaded without running code, and refused if they do not fit."""

import pytest
import torch
from helpers.families import build

from fuxictr_me import DNN_ME, DCNv2_ME, UsageError


def test_checkpoints_load_only_into_models_that_fit(plain_map, tmp_path):
    model = build(DCNv2_ME, plain_map, 2)
    path = str(tmp_path / "deep" / "a.model")
    model.save_weights(path)
    other = build(DCNv2_ME, plain_map, 2, seed=1)
    other.load_weights(path)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UsageError, match="does not fit this model"):
        build(DCNv2_ME, plain_map, 3).load_weights(path)
    with pytest.raises(UsageError, match="no checkpoint at"):
        other.load_weights(str(tmp_path / "none.model"))
    (tmp_path / "bad.model").write_bytes(b"PK not a checkpoint")
    with pytest.raises(UsageError, match="not a checkpoint of weights"):
        other.load_weights(str(tmp_path / "bad.model"))


def test_a_pickle_in_a_checkpoint_does_not_run(plain_map, tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"x": Evil()}, tmp_path / "evil.model")
    with pytest.raises(UsageError, match="not a checkpoint of weights"):
        build(DNN_ME, plain_map, 1).load_weights(str(tmp_path / "evil.model"))


def test_a_failing_save_keeps_the_last_checkpoint(plain_map, tmp_path, monkeypatch):
    model, path = build(DNN_ME, plain_map, 1), tmp_path / "a.model"
    model.save_weights(str(path))
    whole = path.read_bytes()

    def interrupted(state_dict, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.save_weights(str(path))
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_first_set_checkpoint_fills_set_0(plain_map, tmp_path):
    trained = build(DCNv2_ME, plain_map, 1)
    trained.save_weights(str(tmp_path / "a.model"))
    model = build(DNN_ME, plain_map, 2, first_set_checkpoint=str(tmp_path / "a.model"))
    for field, tables in model.embedding_layer.tables().items():
        assert torch.equal(tables[0], trained.embedding_layer.tables()[field][0])
        assert not torch.equal(tables[1], tables[0])
