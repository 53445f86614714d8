"""FuxiCTR's wheel imports ray wherever a model is imported; where ray is not installed, that must not matter."""

import importlib.util
import sys
import types

NAMES = ("ray", "ray.data", "ray.data.datasource", "ray.data.datasource.filename_provider")


def stand_in_for_ray():
    """Put empty modules in ray's place, if it is not installed: FuxiCTR then imports.

    What of FuxiCTR needs ray itself (its parquet loader and builder on the wheel) fails with a line that says so;
    H5, npz and csv as this package reads them do not.
    """
    if "ray" in sys.modules or importlib.util.find_spec("ray") is not None:
        return
    for name in NAMES:
        sys.modules[name] = _Absent(name)


class _Absent(types.ModuleType):
    """A module that holds nothing: names of classes can be imported from it, but nothing can be done with them."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name[0].isupper():
            return type(name, (), {})
        from fuxictr_me.errors import UsageError

        need = f"FuxiCTR asks for {self.__name__}.{name}, and ray is not installed"
        raise UsageError(f"{need}: pip install 'ray[data]', or set data_format: h5")
