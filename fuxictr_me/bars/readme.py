"""``README.md`` of an entry, with the sections of BARS' entries in their order."""

import json
from typing import Any

import numpy as np
import yaml

from fuxictr_me.bars import SEEDS
from fuxictr_me.bars.environment import split_environment
from fuxictr_me.bars.model_code import describe_model, install_commands
from fuxictr_me.bars.result_rows import ResultRow
from fuxictr_me.formatting import pluralize
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.zoo.find_model import get_class_name

SECTIONS = ("Environments", "Dataset", "Code", "Results", "Logs")
FUXICTR = {  # page and package of the wheel and of the main branch, which have one version number
    "wheel": ("https://pypi.org/project/fuxictr/{0}/", "fuxictr=={0}"),
    "main": ("https://github.com/reczoo/FuxiCTR", "git+https://github.com/reczoo/FuxiCTR"),
}
TEMPLATE = """## {name}

How the {model} model was trained on {folder}, and how to reproduce it.

### Index

{links}

### Environments

+ Hardware

  ```python
{hardware}
  ```

+ Software

  ```python
{software}
  ```

### Dataset

{get_data}

### Code

{description}
It ran with [FuxiCTR-v{fuxictr}]({fuxictr_page}) ({flavour}).

1. Install what the [environments](#environments) list:

    ```bash
    pip install {fuxictr_package}
    pip install fuxictr-me=={fuxictr_me}
{install}    ```

2. Put the data where `{config}/dataset_config.yaml` looks for them, or set its paths.

3. Train and evaluate:

    ```bash
    cd {name}
    {command}
    ```

### Results

{seeds} The metrics are those of the test split.

{table}

### Logs

{names}```python
{log}
```
"""


def write_readme(
    name: str,
    settings: dict[str, Any],
    source: dict[str, Any] | None,
    dataset: str,
    config: str,
    rows: list[ResultRow],
    environment: dict[str, str],
    flavour: str,
    log: str,
    renamed: dict[str, str],
) -> str:
    """Return the text of ``README.md``.

    Args:
        name: name of the entry.
        settings: of the model.
        source: of the model's class, see ``model_code``.
        dataset: e.g. ``criteo_x1``.
        config: name of the config folder.
        rows: rows of the runs.
        environment: as ``read_environment`` returns it.
        flavour: ``wheel`` or ``main``, the FuxiCTR of that version number.
        log: of the first row's run.
        renamed: expid of a run -> expid in the entry.
    """
    hardware, software = ("\n".join(f"  {line}" for line in part) for part in split_environment(environment).values())
    fuxictr, fuxictr_me = environment["fuxictr"], environment["fuxictr-me"]
    fuxictr_page, fuxictr_package = (text.format(fuxictr) for text in FUXICTR[flavour])
    folder, page = _find_published(dataset)
    get_data = (
        f"Dataset ID: [{folder}]({page}), which has the files and their description."
        if page
        else f"Dataset ID: {dataset}, not a BARS data set. `{config}/dataset_config.yaml` names its files and columns."
    )
    return TEMPLATE.format(
        name=name,
        model=get_class_name(settings["model"]),
        folder=folder,
        links=" | ".join(f"[{section}](#{section})" for section in SECTIONS),
        hardware=hardware,
        software=software,
        get_data=get_data,
        description=describe_model(settings, source, fuxictr_me),
        fuxictr=fuxictr,
        fuxictr_me=fuxictr_me,
        fuxictr_page=fuxictr_page,
        fuxictr_package=fuxictr_package,
        flavour=flavour,
        install="".join(f"    {line}\n" for line in install_commands(source)),
        config=config,
        command=rows[0].command,
        seeds=_describe_seeds(rows),
        table=results_table(rows),
        names=_describe_names(renamed),
        log=log.rstrip(),
    )


def results_table(rows: list[ResultRow]) -> str:
    """Return one line per run, then mean and population standard deviation, as BARS computes them."""
    names = list(rows[0].test)
    cells = [["Runs", "Seed", *names]]
    cells += [[str(i), str(row.seed), *(f"{row.test[n]:.6f}" for n in names)] for i, row in enumerate(rows, start=1)]
    if len(rows) > 1:
        values = np.array([[row.test[name] for name in names] for row in rows])  # (R, metrics)
        cells.append(["Avg", "", *(f"{mean:.6f}" for mean in values.mean(axis=0))])
        cells.append(["Std", "", *(f"&#177;{std:.8f}" for std in values.std(axis=0))])
    lines = [f"| {' | '.join(line)} |" for line in cells]
    lines.insert(1, "|" + ":----:|" * len(cells[0]))
    return "\n".join(lines)


def _describe_seeds(rows: list[ResultRow]) -> str:
    seeds = [row.seed for row in rows]
    listed = ", ".join(map(str, seeds))
    if seeds == list(SEEDS):
        return f"Total {len(rows)} runs, with BARS' seeds {listed}."
    lacking = [str(seed) for seed in SEEDS if seed not in seeds]
    missing = ", ".join(lacking) or "none"
    return f"Total {pluralize(len(rows), 'run')}, with seeds {listed}. Missing seeds of BARS: {missing}."


def _find_published(dataset: str) -> tuple[str, str | None]:
    """Return folder and address of a published data set; the id and None for any other."""
    for file in sorted(find_bundled_folder("dataset_configs").glob("*/files.json")):
        if dataset in yaml.safe_load((file.parent / "dataset_config.yaml").read_text()):
            content = json.loads(file.read_text())
            return content["folder"], content["source"]
    return dataset, None


def _describe_names(renamed: dict[str, str]) -> str:
    changed = [f"`{old}`" for old, new in renamed.items() if old != new]
    if not changed:
        return ""
    return f"The runs were named {', '.join(changed)}. Here they have the names that FuxiCTR's autotuner gives.\n\n"
