"""The table of options: every option, default and choice is that of the code that reads it."""

import inspect

import jsonschema
import pytest
import torch
from fuxictr.pytorch.torch_utils import get_loss
from helpers.batches import make_batch

from fuxictr_me import models
from fuxictr_me.compat import fuxictr_models
from fuxictr_me.config.callback_specs import CALLBACK_ARGUMENTS
from fuxictr_me.config.dataset_options import COLUMN_OPTIONS, DATASET_OPTIONS, LABEL_OPTIONS, READING_OPTIONS
from fuxictr_me.config.family_options import FAMILY_OPTIONS
from fuxictr_me.config.model_options import COMMON_OPTIONS, MODEL_OPTIONS, PENALTY_OPTIONS, SPEED_OPTIONS
from fuxictr_me.config.optimizer_options import OPTIMIZERS
from fuxictr_me.config.options import UNSET
from fuxictr_me.config.training_options import LOSSES, TRAINING_OPTIONS
from fuxictr_me.training.callbacks.from_config import CALLBACKS
from fuxictr_me.zoo.find_model import MODEL_NAMES


def constructor_defaults(model_class):
    """Return the keys that a model's own constructor takes, with their defaults."""
    arguments = list(inspect.signature(model_class.__init__).parameters.values())[2:]
    return {
        argument.name: list(argument.default) if isinstance(argument.default, tuple) else argument.default
        for argument in arguments
        if argument.kind is not argument.VAR_KEYWORD and argument.name != "model_id"
    }


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_table_has_the_options_and_defaults_of_each_model(name):
    in_constructor = constructor_defaults(getattr(models, name))
    in_table = {key: option.models[name] for key, option in FAMILY_OPTIONS.items() if name in option.models}
    assert in_constructor.pop("num_sets", None) is None  # Mixed_ME: their number is that of its interactions
    assert in_constructor == in_table
    assert {model for option in FAMILY_OPTIONS.values() for model in option.models} == set(MODEL_NAMES)


def test_the_table_has_the_options_and_defaults_of_the_base_class():
    in_constructor = constructor_defaults(models.MultiEmbeddingModel)
    assert in_constructor.pop("num_sets") is None  # 4, unless embedding_dim lists the sets
    in_table = COMMON_OPTIONS | PENALTY_OPTIONS | SPEED_OPTIONS | TRAINING_OPTIONS
    assert in_constructor == {key: in_table[key].default for key in in_constructor}
    assert {*COMMON_OPTIONS, *PENALTY_OPTIONS, *SPEED_OPTIONS} == {*in_constructor, "num_sets"} - {*TRAINING_OPTIONS}


def test_defaults_of_training_equal_those_of_fuxictr():
    for function in (fuxictr_models.BaseModel.__init__, fuxictr_models.BaseModel.fit):
        for name, argument in inspect.signature(function).parameters.items():
            if name in TRAINING_OPTIONS and name != "model_id" and argument.default is not argument.empty:
                assert argument.default == TRAINING_OPTIONS[name].default, name


def test_the_table_has_the_callbacks_that_can_be_built():
    assert CALLBACK_ARGUMENTS.keys() == CALLBACKS.keys()
    for name, options in CALLBACK_ARGUMENTS.items():
        arguments = list(inspect.signature(CALLBACKS[name].__init__).parameters.values())[1:]
        defaults = {
            a.name: UNSET if a.default is a.empty else a.default for a in arguments if a.kind is a.POSITIONAL_OR_KEYWORD
        }
        assert defaults == {key: option.default for key, option in options.items()}


def test_every_default_in_the_table_is_of_its_kind():
    for table in (COLUMN_OPTIONS, LABEL_OPTIONS, DATASET_OPTIONS, READING_OPTIONS, TRAINING_OPTIONS, MODEL_OPTIONS):
        for name, option in table.items():
            assert option.name == name and option.doc and "\n" not in option.doc
            for default in (option.default, *option.models.values()):
                if default is not UNSET:
                    option.check(default)
                    jsonschema.validate(default, option.kind.schema)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_of_the_table_trains(optimizer, plain_map):
    model = models.DNN_ME(plain_map, optimizer=optimizer, embedding_dim=2, num_sets=2, hidden_units=[4], verbose=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.train()
    model._max_gradient_norm = 10
    for _ in range(2):
        assert torch.isfinite(model.train_step(make_batch(plain_map)))
    assert any(not torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_of_the_table_has_a_gradient(loss):
    prediction = torch.full((4, 1), 0.3, requires_grad=True)
    get_loss(loss)(prediction, torch.tensor([[0.0], [1.0], [1.0], [1.0]]), reduction="mean").backward()
    assert (prediction.grad[1:] < 0).all() and prediction.grad[0] > 0  # towards the labels
