"""Build the callbacks that the ``callbacks:`` entry of a config names."""

from fuxictr_me.config.callback_specs import check_callbacks, list_specs, split_spec
from fuxictr_me.config.user_code import import_named
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.training.callbacks.base import Callback
from fuxictr_me.training.callbacks.information_abundance import InformationAbundance
from fuxictr_me.training.callbacks.log import Log
from fuxictr_me.training.callbacks.rank_along_depth import RankAlongDepth
from fuxictr_me.training.callbacks.reinitialise_embeddings import ReinitialiseEmbeddings

CALLBACKS: dict[str, type[Callback]] = {
    "InformationAbundance": InformationAbundance,
    "Log": Log,
    "RankAlongDepth": RankAlongDepth,
    "ReinitialiseEmbeddings": ReinitialiseEmbeddings,
}


def build(specs: object) -> list[Callback]:
    """Build the callbacks of the ``callbacks:`` entry of a config.

    Args:
        specs: None, or a list of names, ``{name: {argument: value}}``, or ``Callback`` objects. A name is one of
            fuxictr-me's, or ``package.module.Class``, found as ``fuxictr_me.config.user_code`` describes.

    Raises:
        UsageError: an unknown name or argument, a class that cannot be imported or built, or a callback of fuxictr-me
            that is named twice.
    """
    check_callbacks("callbacks", specs)
    return [spec if isinstance(spec, Callback) else _build_one(*split_spec(spec)) for spec in list_specs(specs)]


def _build_one(name: str, arguments: dict) -> Callback:
    cls = CALLBACKS[name] if name in CALLBACKS else _import_class(name)
    try:
        return cls(**arguments)
    except UsageError:
        raise
    except Exception as error:  # a user's constructor may raise anything
        raise UsageError(f"callback {name}: {error}") from error


def _import_class(name: str) -> type[Callback]:
    module_name, _, class_name = name.rpartition(".")
    module = import_named(module_name, f"callback {name!r}")
    cls = getattr(module, class_name, None)
    if cls is None:
        classes = [
            key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Callback)
        ]
        raise unknown(f"class in {module_name} ({getattr(module, '__file__', 'built in')})", class_name, classes)
    if not (isinstance(cls, type) and issubclass(cls, Callback)):
        raise UsageError(f"callback {name!r} is not a subclass of fuxictr_me.Callback")
    return cls
