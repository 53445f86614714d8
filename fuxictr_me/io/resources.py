"""Find the model zoo and the data-set configs: in a wheel they are inside the package, in a checkout beside it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
SCHEMA_FOLDER = "../../schema"  # of the JSON schemas, as the configs of the model zoo name it in their first line
DATASETS_FOLDER = "../../dataset_configs"  # as the configs of the model zoo name it


def find_bundled_folder(name: str) -> Path:
    """Return the folder ``model_zoo`` or ``dataset_configs`` that came with this package.

    Raises:
        FileNotFoundError: the installation is broken.
    """
    for parent in (PACKAGE, PACKAGE.parent):
        if (parent / name).is_dir():
            return parent / name
    raise FileNotFoundError(f"{name}/ did not come with fuxictr_me at {PACKAGE}: install it again")


def find_zoo_configs() -> dict[str, Path]:
    """Return the config folder of each entry of the bundled model zoo, by model name."""
    return {path.parent.name: path for path in sorted(find_bundled_folder("model_zoo").glob("*/config"))}


def copy_zoo_config(source: Path, target: Path) -> None:
    """Copy the config folder of an entry, with absolute paths of the bundled data sets and JSON schemas.

    Raises:
        FileExistsError: ``target`` exists.
    """
    target.mkdir(parents=True)
    datasets, schemas = find_bundled_folder("dataset_configs"), find_bundled_folder("model_zoo") / "schema"
    for file in source.glob("*.yaml"):
        text = file.read_text().replace(DATASETS_FOLDER, str(datasets)).replace(SCHEMA_FOLDER, str(schemas))
        (target / file.name).write_text(text)
