"""Every assumption about FuxiCTR that this package rests on.

Runs on the FuxiCTR that is installed. Where the environment variable FUXICTR_SRC names a checkout of
reczoo/FuxiCTR, the last test runs this file again on that one.
"""

import importlib
import inspect
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor, build_dataset
from fuxictr.pytorch import dataloaders
from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict, MLP_Block, PretrainedEmbedding
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import get_optimizer, get_regularizer
from fuxictr.utils import Monitor, load_config, print_to_list, set_logger
from helpers.batches import make_batch
from helpers.feature_maps import MODEL, categorical, make_feature_map, sequence
from helpers.paths import ROOT

from fuxictr_me.compat.loaders import detect_flavour
from fuxictr_me.config.known_keys import HOST_KEYS, find_known_keys

WHEEL = detect_flavour() == "wheel"


def named(function):
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return {p.name for p in inspect.signature(function).parameters.values() if p.kind not in kinds} - {"self"}


def build_module():
    return sys.modules["fuxictr.preprocess.build_dataset"]


class Model(BaseModel):
    """Records the order in which FuxiCTR's training loop calls its parts."""

    def __init__(self, feature_map, folder, embedding=None, **kwargs):
        (folder / feature_map.dataset_id).mkdir(exist_ok=True)
        super().__init__(feature_map, model_id="M", model_root=str(folder), metrics=["AUC"], verbose=0, **kwargs)
        self.embedding_layer = embedding or FeatureEmbedding(feature_map, 4)
        self.fc = torch.nn.Linear(12, 1)
        self.calls = []
        self.compile("adam", "binary_crossentropy", 1e-3)

    def forward(self, inputs):
        return {"y_pred": self.fc(self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)).sigmoid()}

    def recorded(name):
        def method(self, *args, **kwargs):
            self.calls.append(name)
            return getattr(super(), name)(*args, **kwargs)

        return method

    train_epoch, eval_step, evaluate = recorded("train_epoch"), recorded("eval_step"), recorded("evaluate")
    checkpoint_and_earlystop, load_weights = recorded("checkpoint_and_earlystop"), recorded("load_weights")
    save_weights, evaluate_metrics = recorded("save_weights"), recorded("evaluate_metrics")


def test_the_training_loop_that_callbacks_hook_into(plain_map, tmp_path):
    model = Model(plain_map, tmp_path)
    data = [make_batch(plain_map)]
    model.fit(data, epochs=1, validation_data=data)
    evaluation = ["eval_step", "evaluate", "evaluate_metrics", "checkpoint_and_earlystop", "save_weights"]
    assert model.calls == ["train_epoch", *evaluation, "load_weights"]
    assert model.training and model._epoch_index == 0 and model._total_steps == 1
    assert model.checkpoint == str(tmp_path / "made" / "M.model")
    assert {"_callbacks", "callbacks"}.isdisjoint(vars(model))


def test_base_model_reads_what_we_pass():
    assert named(BaseModel.__init__) >= {"feature_map", "model_id", "gpu", "monitor", "monitor_mode", "task"}
    assert list(inspect.signature(BaseModel.fit).parameters)[1:4] == ["data_generator", "epochs", "validation_data"]
    assert list(inspect.signature(BaseModel.checkpoint_and_earlystop).parameters) == ["self", "logs", "min_delta"]
    assert list(inspect.signature(BaseModel.compile).parameters) == ["self", "optimizer", "loss", "lr"]
    assert "evaluate_metrics" in vars(BaseModel) and "save_weights" in vars(BaseModel)


def test_regularizer_counts_exact_feature_embedding_dicts_only(plain_map, tmp_path):
    class Subclass(FeatureEmbeddingDict):
        pass

    embedding = FeatureEmbedding(plain_map, 4)
    counted = Model(plain_map, tmp_path, embedding, embedding_regularizer=0.1)
    assert counted.regularization_loss() > 0
    embedding.embedding_layer.__class__ = Subclass
    assert counted.regularization_loss() == 0


def test_init_weights_runs_after_construction_inner_before_outer():
    order = []

    class Inner(torch.nn.Linear):
        def init_weights(self):
            order.append("inner")

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner(2, 2)

        def init_weights(self):
            order.append("outer")

    BaseModel.reset_parameters(Outer())
    assert order == ["inner", "outer"]


def test_feature_embedding_dict_has_what_we_read(plain_map):
    layer = FeatureEmbedding(plain_map, 4).embedding_layer
    assert type(layer) is FeatureEmbeddingDict and list(layer.embedding_layers) == ["user", "item", "place"]
    assert list(layer.feature_encoders) == [] and callable(layer.embedding_initializer)
    assert {"pretrain_embedding", "freeze_emb"} <= set(PretrainedEmbedding.__init__.__code__.co_names)
    parameters = named(FeatureEmbedding.__init__)
    assert parameters == {
        "feature_map",
        "embedding_dim",
        "embedding_initializer",
        "required_feature_columns",
        "not_required_feature_columns",
        "use_pretrain",
        "use_sharing",
    }


def test_share_embedding_without_its_base_stays_at_unit_variance():
    """The flaw that MultiEmbedding mends."""
    feature_map = make_feature_map({"last": categorical(500, share_embedding="item"), "item": categorical(500)})
    layers = FeatureEmbedding(feature_map, 8).embedding_layer.embedding_layers
    assert layers["last"].weight.std().item() == pytest.approx(1, rel=0.1) and layers["item"].weight.std() < 1e-3


def test_average_pooling_masks_by_zero_vectors():
    feature_map = make_feature_map({"clicks": sequence(9, 3)})
    layer = FeatureEmbedding(feature_map, 4)
    table = layer.embedding_layer.embedding_layers["clicks"].weight
    out = layer({"clicks": torch.tensor([[1, 2, 0]])})[0, 0]
    torch.testing.assert_close(out, (table[1] + table[2]) / 2)


def test_mlp_block_orders_its_layers():
    layers = MLP_Block(3, hidden_units=[4], hidden_activations="ReLU", dropout_rates=0.1, batch_norm=True).mlp
    assert [type(x).__name__ for x in layers] == ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert list(MLP_Block(3, hidden_units=[], output_dim=None).mlp) == []


def test_flaws_that_settings_guard_against():
    assert Monitor("AUCC").get_value({"AUC": 0.7}) == 0  # a misspelt monitor
    assert get_regularizer(1) == []  # a whole number
    with pytest.raises(NotImplementedError):
        get_regularizer("1e-6")  # what YAML makes of 1e-6
    assert yaml.safe_load("1e-6") == "1e-6"
    with pytest.raises(NotImplementedError, match="is not supported"):
        get_optimizer("Adm", [torch.nn.Parameter(torch.zeros(1))], 1e-3)


def test_every_key_that_fuxictr_reads_is_known():
    readers = [FeatureProcessor.__init__, FeatureProcessor.read_data, FeatureProcessor.fit, build_dataset]
    readers += [BaseModel.__init__, BaseModel.fit, dataloaders.RankDataLoader]
    internal = {
        "feature_encoder",
        "data_path",
        "train_ddf",
        "feature_map",
        "stage",
        "data_generator",
        "validation_data",
    }
    missing = set().union(*map(named, readers)) - find_known_keys(BaseModel) - HOST_KEYS - internal
    assert not missing


def test_load_config_merges_base_under_the_experiment(tmp_path):
    (tmp_path / "model_config.yaml").write_text("Base: {a: 1, b: 1}\nx: {b: 2, dataset_id: d}\n")
    (tmp_path / "dataset_config.yaml").write_text("d: {data_root: r}\n")
    params = load_config(str(tmp_path), "x")
    assert params == {"a": 1, "b": 2, "dataset_id": "d", "model_id": "x", "data_root": "r"}


def test_log_file_and_result_row(tmp_path):
    set_logger({"dataset_id": "d", "model_id": "m", "model_root": str(tmp_path)})
    assert (tmp_path / "d" / "m.log").exists()
    assert print_to_list({"AUC": 0.5, "logloss": 0.25}) == "AUC: 0.500000 - logloss: 0.250000"


def test_the_two_loader_flavours():
    loader = dataloaders.RankDataLoader
    assert inspect.isfunction(loader) if WHEEL else inspect.isclass(loader)
    assert hasattr(loader, "make_iterator") is not WHEEL


def test_rank_data_loader_takes_a_loader_of_ours(plain_map):
    class Loader:
        num_samples = num_blocks = 1

        def __init__(self, feature_map, path, split, batch_size, shuffle, **kwargs):
            self.seen = (path, split, batch_size, shuffle, kwargs["seed"])

    loaders = dataloaders.RankDataLoader(
        plain_map, stage="train", train_data="t", valid_data="v", batch_size=3, data_loader=Loader, seed=9
    )
    loaders = loaders.make_iterator() if hasattr(loaders, "make_iterator") else loaders
    assert [x.seen for x in loaders] == [("t", "train", 3, True, 9), ("v", "valid", 3, False, 9)]


def test_building_goes_through_a_transform_that_can_be_replaced():
    module = build_module()
    assert callable(module.transform) and hasattr(module, "init_ray") is WHEEL
    if WHEEL:
        assert list(inspect.signature(module.transform).parameters) == ["feature_encoder", "ddf", "split", "block_size"]


def test_what_the_h5_build_relies_on(tmp_path):
    """Lazy reading and preprocessing, a fit that leaves vocabularies, and (wheel) statistics that can be replaced."""
    (tmp_path / "a.csv").write_text("word,words,label\n" + "a,a^b,1\nb,b,0\n" * 3 + ",c,1\n")
    columns = [
        {"name": "word", "active": True, "dtype": "str", "type": "categorical"},
        {"name": "words", "active": True, "dtype": "str", "type": "sequence", "splitter": "^", "max_len": 2},
    ]
    label = {"name": "label", "dtype": "float"}
    processor = FeatureProcessor(feature_cols=columns, label_col=label, dataset_id="a", data_root=str(tmp_path))
    rows = processor.preprocess(processor.read_data(str(tmp_path / "a.csv"), data_format="csv", sep=",", n_rows=None))
    assert isinstance(rows, pl.LazyFrame)
    if WHEEL:
        statistics = processor._collect_statistics(rows, None)
        assert statistics["word"] == {"value_counts": {"a": 3, "b": 3, "": 1}}
        assert statistics["words"]["value_counts"] == {"a": 3, "b": 6, "c": 1}
        assert callable(build_module().merge_meta_ddf)
        processor.fit(rows, rebuild_dataset=True, meta_ddf=None)
        tokenizer = processor.processor_dict["words::tokenizer"]
        assert (tokenizer._splitter, tokenizer._na_value, tokenizer.max_len, tokenizer.padding) == ("^", "", 2, "post")
        assert set(tokenizer.vocab) == {"a", "b", "c", "__PAD__", "__OOV__"} and tokenizer.vocab["__PAD__"] == 0
    for module, functions in (
        ("criteo", ["convert_to_bucket"]),
        ("avazu", ["convert_weekday", "convert_weekend", "convert_hour"]),
    ):
        cls = importlib.import_module(f"fuxictr.datasets.{module}").CustomizedFeatureProcessor
        assert issubclass(cls, FeatureProcessor) and all(callable(getattr(cls, name)) for name in functions)


def test_splitting_by_size_fails():
    """So a config that asks for it is refused."""
    with pytest.raises(TypeError):
        build_module().split_train_test(pl.LazyFrame({"a": [1, 2]}), test_size=0.5)


def test_feature_map_file(tmp_path):
    features = {"user": categorical(5), "clicks": sequence(4, 2), "price": {"source": "", "type": "numeric"}}
    feature_map = make_feature_map(features, tmp_path, use_features=["clicks", "user"], group_id="user")
    assert isinstance(feature_map, FeatureMap) and list(feature_map.features) == ["clicks", "user"]
    assert feature_map.num_fields == 3  # counted before use_features narrows
    assert feature_map.group_id == "user" and feature_map.labels == ["label"]
    with pytest.raises(RuntimeError, match="does not match"):
        FeatureMap("other", str(tmp_path)).load(str(tmp_path / "feature_map.json"), {})


def test_labels_are_float_columns(plain_map, tmp_path):
    model = Model(plain_map, tmp_path)
    y = model.get_labels({"label": torch.tensor([0, 1])})
    assert y.shape == (2, 1) and y.dtype == torch.float32
    assert MODEL["task"] == "binary_classification" and isinstance(model.output_activation, torch.nn.Sigmoid)


def test_metrics_refuse_nan_late():
    """sklearn raises on NaN with a traceback; ours names it first."""
    with pytest.raises(ValueError, match="NaN"):
        BaseModel.evaluate_metrics(None, np.array([0.0, 1.0]), np.array([np.nan, 0.5]), ["AUC"])


@pytest.mark.skipif("FUXICTR_SRC" not in os.environ or not WHEEL, reason="FUXICTR_SRC names no checkout")
def test_the_same_of_a_github_checkout():
    pytest.importorskip("keras_preprocessing", reason="FuxiCTR's main branch needs keras_preprocessing")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, "-W", "default", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.environ["FUXICTR_SRC"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
