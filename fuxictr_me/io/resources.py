"""Where the model zoo and the data-set configs lie: in the wheel inside the package, in a checkout beside it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def find_bundled_folder(name):
    """The folder ``model_zoo`` or ``dataset_configs`` that came with this package.

    Raises:
        FileNotFoundError: a broken installation.
    """
    for parent in (PACKAGE, PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise FileNotFoundError(f"{name}/ did not come with fuxictr_me at {PACKAGE}: install it again")


def find_zoo_configs():
    """The config folder of every entry of the bundled model zoo, by model name."""
    return {path.parent.name: path for path in sorted(find_bundled_folder("model_zoo").glob("*/config"))}


def copy_zoo_config(source, target):
    """Copy an entry's config folder, with the paths of the bundled data sets made absolute."""
    target.mkdir(parents=True)
    for file in source.glob("*.yaml"):
        text = file.read_text().replace("../../dataset_configs", str(find_bundled_folder("dataset_configs")))
        (target / file.name).write_text(text)
