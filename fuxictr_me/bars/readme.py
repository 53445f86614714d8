"""README.md of an entry: the sections that BARS' entries have, in their order."""

import json

import numpy as np
import yaml

from fuxictr_me.bars import SEEDS
from fuxictr_me.bars.environment import environment_parts
from fuxictr_me.bars.model_code import described, install_commands
from fuxictr_me.io.resources import find_bundled_folder
from fuxictr_me.zoo.find_model import get_class_name

SECTIONS = ("Environments", "Dataset", "Code", "Results", "Logs")
HOSTS = {  # where the two FuxiCTR of one number come from
    "wheel": ("https://pypi.org/project/fuxictr/{0}/", "fuxictr=={0}"),
    "main": ("https://github.com/reczoo/FuxiCTR", "git+https://github.com/reczoo/FuxiCTR"),
}


def readme_text(name, settings, code, dataset, config, rows, environment, flavour, log, renamed):
    """The whole text.

    Args:
        name (str): of the entry.
        settings (dict): of the model.
        code (dict or None): of a model that is not ours, as ``describe_source`` recorded it.
        dataset (str): e.g. ``criteo_x1``.
        config (str): name of the config folder.
        rows (list of Row)
        environment (dict): as ``read_environment`` gives it.
        flavour (str): ``wheel`` or ``main``: which FuxiCTR of that number.
        log (str): of the first row's run.
        renamed (dict): expid as it ran -> expid in the entry.

    Returns:
        str
    """
    hardware, software = ("\n".join(f"  {line}" for line in part) for part in environment_parts(environment).values())
    ours, host, model = environment["fuxictr-me"], environment["fuxictr"], get_class_name(settings["model"])
    host_page, host_package = (text.format(host) for text in HOSTS[flavour])
    install = "".join(f"    {line}\n" for line in install_commands(code))
    folder, source = _published(dataset)
    get_data = (
        f"Dataset ID: [{folder}]({source}), where the files and their description are found."
        if source
        else f"Dataset ID: {dataset}. No BARS data set; `{config}/dataset_config.yaml` names its files and columns."
    )
    links = " | ".join(f"[{section}](#{section})" for section in SECTIONS)
    return f"""## {name}

How the {model} model was trained on {folder}, and how to do it again.

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

{described(settings, code, ours)}
It ran with [FuxiCTR-v{host}]({host_page}) ({flavour}).

1. Install what the [environments](#environments) list:

    ```bash
    pip install {host_package}
    pip install fuxictr-me=={ours}
{install}    ```

2. Put the data where `{config}/dataset_config.yaml` looks for them, or set its paths.

3. Train and evaluate:

    ```bash
    cd {name}
    {rows[0].command}
    ```

### Results

{_seeds(rows)} The metrics are of the test split.

{results_table(rows)}

### Logs

{_named(renamed)}```python
{log.rstrip()}
```
"""


def results_table(rows):
    """A line a run, then mean and population standard deviation, as BARS computes it."""
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


def _seeds(rows):
    seeds = [row.seed for row in rows]
    listed = ", ".join(map(str, seeds))
    if seeds == list(SEEDS):
        return f"Total {len(rows)} runs, with BARS' seeds {listed}."
    lacking = [str(seed) for seed in SEEDS if seed not in seeds]
    return f"Total {len(rows)} runs, with seeds {listed}; of BARS' five, without {', '.join(lacking) or 'none'}."


def _published(dataset):
    """Folder and address of a published data set; the id and None of another."""
    for file in sorted(find_bundled_folder("dataset_configs").glob("*/files.json")):
        if dataset in yaml.safe_load((file.parent / "dataset_config.yaml").read_text()):
            content = json.loads(file.read_text())
            return content["folder"], content["source"]
    return dataset, None


def _named(renamed):
    changed = [f"`{old}`" for old, new in renamed.items() if old != new]
    if not changed:
        return ""
    return f"The runs were named {', '.join(changed)}; here they have the names that FuxiCTR's autotuner gives.\n\n"
