"""How an entry describes its model, and the code of the model if it is the author's own.

A model is one of fuxictr-me's (its source is None), of FuxiCTR's or another package's, or the author's own class. The
source is a dict as ``zoo.model_source.describe_source`` records it in the result of a run.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuxictr_me.bars.leaderboard_row import PAPER
from fuxictr_me.errors import UsageError
from fuxictr_me.io.checksums import hash_file
from fuxictr_me.zoo.find_model import FUXICTR_SRC, ZOO_PACKAGE, get_class_name
from fuxictr_me.zoo.model_source import OWN

if TYPE_CHECKING:
    from fuxictr_me.bars.finished_runs import FinishedRun


def is_multi_embedding(settings: dict[str, Any], source: dict[str, Any] | None) -> bool:
    """Whether the model is of the paper's kind: fuxictr-me's, or made so by ``MultiEmbeddingOf`` with several sets."""
    return source is None or (source["wrapped"] and settings.get("num_sets", 1) > 1)


def default_title(settings: dict[str, Any], source: dict[str, Any] | None) -> str:
    """Return the name of the model in the entry: its class, with ``_ME`` if it was given several sets."""
    is_wrapped = source is not None and is_multi_embedding(settings, source)
    return get_class_name(settings["model"]) + ("_ME" if is_wrapped else "")


def describe_model(settings: dict[str, Any], source: dict[str, Any] | None, version: str) -> str:
    """Return sentences that say which model ran, and where its code is.

    Args:
        settings: of the model.
        source: of the model's class.
        version: of fuxictr-me.
    """
    model = get_class_name(settings["model"])
    keys = ("num_sets", "merge", "task_sets", "embedding_dim")
    sizes = ", ".join(f"{key} {settings[key]}" for key in keys if settings.get(key) is not None)
    if source is None:
        return f"{model} is a multi-embedding model ([paper]({PAPER})) of fuxictr-me {version}, here with {sizes}."
    name, origin = source["class"].partition(":")[2], source["origin"]
    code = f"`{source['file']}`, md5 {source['md5']}"
    if origin == OWN:
        where = f"{name} is the author's own model. Its code is in this folder: {code}."
    elif source["file"].startswith(f"{ZOO_PACKAGE}/"):
        where = f"{name} is in the model zoo of {origin}: {code}."
    else:
        where = f"{name} is in {origin}: {code}."
    if not is_multi_embedding(settings, source):
        return f"{where} It ran unchanged under fuxictr-me {version}, here with {sizes}."
    made = f"`MultiEmbeddingOf` of fuxictr-me {version} makes a multi-embedding model ([paper]({PAPER})) of it"
    return f"{where} {made}, here with {sizes}."


def install_commands(source: dict[str, Any] | None) -> list[str]:
    """Return shell lines that install the code of the model, if it is neither fuxictr-me's nor in the entry."""
    if source is None or source["origin"] == OWN:
        return []
    package, _, version = source["origin"].partition(" ")
    if not source["file"].startswith(f"{ZOO_PACKAGE}/"):
        return [f"pip install {package}=={version}" if version else f"pip install {package}"]
    checkout = [] if " " in version else [f"git -C FuxiCTR checkout {version}"]
    return ["git clone https://github.com/reczoo/FuxiCTR", *checkout, f"export {FUXICTR_SRC}=$PWD/FuxiCTR"]


def read_own_code(run: "FinishedRun", config: str) -> dict[str, str]:
    """Return the file of the author's own class as it ran, name in the entry -> text; empty for other models.

    Raises:
        UsageError: the file is missing or has changed, or ``model`` names the class by a module that only imports it.
    """
    source = run.source
    if source is None or source["origin"] != OWN:
        return {}
    if source["class"] != run.model["model"]:
        raise UsageError(
            f"an entry holds the file of the model's class: set model to {source['class']} and run again, "
            f"because {run.model['model']} only imports it"
        )
    name = Path(source["file"])
    if name.is_absolute() or ".." in name.parts or name.suffix != ".py":
        raise UsageError(f"the result of {run.expid} names the code {str(name)!r}, which is no .py file in an entry")
    for folder in (run.folder, Path(config).resolve().parent, Path()):
        path = folder / source["file"]
        if path.is_file() and hash_file(path, "md5") == source["md5"]:
            return {source["file"]: path.read_text()}
    raise UsageError(
        f"{source['file']}, with which {run.expid} ran (md5 {source['md5']}), exists neither in the working directory "
        "nor beside the config: run again"
    )
