"""What an entry says of its model, and holds of its code: one of ours, of FuxiCTR's, or of the author's own."""

from pathlib import Path

from fuxictr_me.bars.leaderboard import PAPER
from fuxictr_me.errors import UsageError
from fuxictr_me.io.checksums import hash_file
from fuxictr_me.zoo.find_model import FUXICTR_SRC, ZOO_PACKAGE, get_class_name
from fuxictr_me.zoo.model_source import OWN


def is_multi_embedding(settings, source):
    """Whether a run is of the paper's: ours always, any other model where ``MultiEmbeddingOf`` gave it several sets."""
    return source is None or (source["wrapped"] and settings.get("num_sets", 1) > 1)


def title_of(settings, source):
    """The model's name in the entry: its class, with ``_ME`` where another's model has several sets."""
    wrapped = source is not None and is_multi_embedding(settings, source)
    return get_class_name(settings["model"]) + ("_ME" if wrapped else "")


def described(settings, source, ours):
    """Sentences on what ran.

    Args:
        settings (dict): of the model.
        source (dict or None): as ``describe_source`` recorded it.
        ours (str): version of fuxictr-me.

    Returns:
        str
    """
    model = get_class_name(settings["model"])
    keys = ("num_sets", "merge", "task_sets", "embedding_dim")
    sizes = ", ".join(f"{key} {settings[key]}" for key in keys if settings.get(key) is not None)
    if source is None:
        return f"{model} is a multi-embedding model ([paper]({PAPER})) of fuxictr-me {ours}; here with {sizes}."
    name, origin = source["class"].partition(":")[2], source["origin"]
    code = f"`{source['file']}`, md5 {source['md5']}"
    if origin == OWN:
        told = f"{name} is a model of its author's: {code}, which lies here."
    elif source["file"].startswith(f"{ZOO_PACKAGE}/"):
        told = f"{name} is of the model zoo of {origin}: {code}."
    else:
        told = f"{name} is of {origin}: {code}."
    if not is_multi_embedding(settings, source):
        return f"{told} It ran as it is under fuxictr-me {ours}; here with {sizes}."
    made = f"`MultiEmbeddingOf` of fuxictr-me {ours} makes a multi-embedding model ([paper]({PAPER})) of it"
    return f"{told} {made}; here with {sizes}."


def install_commands(source):
    """Lines of a shell that bring the code of a model that is not ours; none where it lies in the entry.

    Args:
        source (dict or None)

    Returns:
        list of str
    """
    if source is None or source["origin"] == OWN:
        return []
    package, _, version = source["origin"].partition(" ")
    if not source["file"].startswith(f"{ZOO_PACKAGE}/"):
        return [f"pip install {package}=={version}" if version else f"pip install {package}"]
    checkout = [] if " " in version else [f"git -C FuxiCTR checkout {version}"]
    return ["git clone https://github.com/reczoo/FuxiCTR", *checkout, f"export {FUXICTR_SRC}=$PWD/FuxiCTR"]


def own_code(run, config):
    """The file of the author's own class, as it ran.

    Args:
        run (FinishedRun)
        config (str): folder of the configs.

    Returns:
        dict: name in the entry -> text; empty for any other model.

    Raises:
        UsageError: it is gone or has changed, or the class is named by another module than its own.
    """
    source = run.source
    if source is None or source["origin"] != OWN:
        return {}
    if source["class"] != run.model["model"]:
        raise UsageError(
            f"an entry holds the file of the model's class: set model to {source['class']} and run again, "
            f"for {run.model['model']} only names it"
        )
    name = Path(source["file"])
    if name.is_absolute() or ".." in name.parts or name.suffix != ".py":
        raise UsageError(f"the result of {run.expid} names the code {str(name)!r}, which is no .py file in an entry")
    for folder in (run.folder, Path(config).resolve().parent, Path()):
        path = folder / source["file"]
        if path.is_file() and hash_file(path, "md5") == source["md5"]:
            return {source["file"]: path.read_text()}
    raise UsageError(
        f"{source['file']}, as {run.expid} ran with it (md5 {source['md5']}), is not there any more, neither in the "
        "working directory nor beside the config: run again"
    )
