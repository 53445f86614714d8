"""What the registry of model classes says decides how a class is treated, not how it looks."""

from fuxictr.pytorch.models import BaseModel

from fuxictr_me import DCNv2_ME, MultiEmbeddingModel, MultiEmbeddingOf
from fuxictr_me.config.model_registry import get_backbone, is_fuxictr_me_model, is_wrapped


class Foreign(BaseModel):
    """A model from another package, with attributes that look like those of a wrapped one."""

    _defaults = ("num_sets",)
    _backbone = BaseModel

    def __init__(self, feature_map, **kwargs):
        super().__init__(feature_map, **kwargs)


class Own(DCNv2_ME):
    """A user's subclass of a fuxictr-me model."""


def test_models_of_fuxictr_me_and_their_subclasses_are_known():
    for model_class in (MultiEmbeddingModel, DCNv2_ME, Own):
        assert is_fuxictr_me_model(model_class) and not is_wrapped(model_class)
        assert get_backbone(model_class) is model_class


def test_a_class_is_wrapped_if_multi_embedding_of_made_it_and_only_then():
    assert not is_wrapped(Foreign) and not is_fuxictr_me_model(Foreign) and get_backbone(Foreign) is Foreign
    wrapped = MultiEmbeddingOf(Foreign)
    for model_class in (wrapped, type("Derived", (wrapped,), {})):
        assert is_wrapped(model_class) and not is_fuxictr_me_model(model_class)
        assert get_backbone(model_class) is Foreign
