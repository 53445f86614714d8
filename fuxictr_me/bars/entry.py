"""``fuxictr-me bars EXPID ...``: an entry of BARS from finished runs."""

import contextlib
import re
from pathlib import Path

from fuxictr_me.bars.check import check_entry
from fuxictr_me.bars.environment import environment_text, read_environment
from fuxictr_me.bars.finished_runs import read_run, read_runs
from fuxictr_me.bars.leaderboard import leaderboard_row
from fuxictr_me.bars.model_code import is_multi_embedding, own_code, title_of
from fuxictr_me.bars.private_text import clean_log, find_personal, relative_settings
from fuxictr_me.bars.readme import readme_text
from fuxictr_me.bars.result_rows import Row, lines
from fuxictr_me.bars.tuner import EXPID, HASHED, is_named, name_runs, plain_id, yaml_text
from fuxictr_me.compat.versions import collect_versions
from fuxictr_me.config import find_config, read_entries
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.zoo.find_model import get_class_name

SCRIPT = '''"""python run_expid.py --config FOLDER --expid EXPID --gpu 0, with fuxictr-me {version}."""

import os
import sys

from fuxictr_me.commands.main import main

if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.realpath(__file__)))
    sys.exit(main(["run_expid", *sys.argv[1:]]))
'''


def write_entry(expids, config=None, out=".", title=None, allow_fewer=False):
    """Write ``<out>/<title>_<dataset>/``, whole or not at all.

    Args:
        expids (list of str): finished runs.
        config (str): folder of the configs; the bundled entry that has the first expid if None.
        out (str): folder to write in.
        title (str): the model's name in the entry; if None its class, of a model that is not ours with ``_ME`` where
            it has several sets.
        allow_fewer (bool): whether other seeds than all of BARS' will do.

    Returns:
        str: what was written, and the row of the leaderboard.

    Raises:
        UsageError: runs that do not make an entry (see ``read_runs``), a folder that is there, or something personal in
            the settings.
        RunError: what was made does not pass the check of an entry.
        OSError: no space, no permission.
    """
    config = config or find_config(expids[0])
    runs = read_runs(expids, config, allow_fewer)
    title = title or title_of(runs[0].model, runs[0].source)
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", title):
        raise UsageError(f"--title names a folder: letters, digits and . _ + -, got {title!r}")
    dataset = plain_id(runs[0].model["dataset_id"], runs[0].dataset)
    if not re.fullmatch(r"\w[\w.+-]*", str(dataset)):
        raise UsageError(f"dataset_id names the folder of the entry: letters, digits and . _ + -, got {dataset!r}")
    target = Path(out) / f"{title}_{dataset}"
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already")
    files = entry_files(runs, config, title, dataset)
    for name, text in files.items():
        if personal := find_personal(text):
            raise UsageError(f"{personal!r} would be in {name}: take it out of the settings")
    with atomic_folder(target) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        if bad := [finding for finding in check_entry(folder) if finding.is_bad]:
            raise RunError(f"the files of the runs do not fit together: {bad[0]}")
    return "\n".join(
        [
            f"{target}: {len(runs)} runs",
            *_differences(runs[0].result["versions"]),
            "row of the leaderboard (its Contributor is yours to fill in):",
            files["leaderboard_row.csv"].rstrip(),
        ]
    )


def entry_files(runs, config, title, dataset):
    """Name in the entry -> text, of every file."""
    first, name, folder = runs[0], f"{title}_{dataset}", f"{title}_{dataset}_tuner_config_01"
    ran_with = first.result["versions"]
    models = {expid: relative_settings(settings, first.folder) for expid, settings in _grid(runs, config).items()}
    named = name_runs(models, dataset, relative_settings(first.dataset, first.folder))
    rows = [_row(run, named, folder) for run in runs]
    settings = named.models[rows[0].expid]
    log = _log(first, rows[0], {**settings, **named.datasets[named.dataset_id]})
    environment = read_environment(ran_with, first.gpu)
    renamed = {run.expid: row.expid for run, row in zip(runs, rows, strict=True) if run.expid != row.expid}
    flavour, code = ran_with["fuxictr"].partition("(")[2].rstrip(")"), first.source
    files = {
        "README.md": readme_text(name, settings, code, dataset, folder, rows, environment, flavour, log, renamed),
        "environments.txt": environment_text(environment),
        "results.csv": lines(rows),
        f"{rows[0].expid}.log": log,
        "run_expid.py": SCRIPT.format(version=ran_with["fuxictr_me"]),
        f"{folder}/model_config.yaml": yaml_text(named.models),
        f"{folder}/dataset_config.yaml": yaml_text(named.datasets),
        "leaderboard_row.csv": leaderboard_row(
            title, get_class_name(first.model["model"]), dataset, rows[0].test, is_multi_embedding(first.model, code)
        ),
        **own_code(first, config),
    }
    if named.tuner:
        files[f"{folder}.yaml"] = yaml_text(named.tuner)
    if tuned := [_row(run, named, folder) for run in _others(runs, named.names, config)]:
        files[f"{folder}.csv"] = "".join(f"{row}\n" for row in rows + tuned)
    return files


def _grid(runs, config):
    """Expid -> settings: the whole grid where FuxiCTR's autotuner has made the config folder, else those that ran."""
    entries = read_entries(Path(config), "model_config")
    named = {expid: settings for expid, settings in entries.items() if is_named(expid, settings)}
    if not all(run.expid in named for run in runs):
        return {run.expid: run.model for run in runs}
    base = EXPID.fullmatch(runs[0].expid)["base"]
    return {expid: settings for expid, settings in named.items() if EXPID.fullmatch(expid)["base"] == base}


def _others(runs, expids, config):
    """The finished runs of the grid that are none of ``runs``."""
    for expid in expids.keys() - {run.expid for run in runs}:
        with contextlib.suppress(UsageError):
            yield read_run(expid, config)


def _row(run, named, folder):
    expid = named.names[run.expid]
    command = f"python run_expid.py --config ./{folder} --expid {expid} --gpu {run.gpu}"
    valid, test = ({name: round(v, 6) for name, v in run.result[split].items()} for split in ("valid", "test"))
    return Row(expid, named.dataset_id, command, run.ended, valid, test, run.seed)


def _log(run, row, settings):
    """The run's log with the names of the entry."""
    log = clean_log(run.log, settings, run.folder)
    ran_on = run.result["settings"]["dataset_id"]
    names = {"model_id": (run.expid, row.expid), "dataset_id": (ran_on, row.dataset_id)}
    for key, (old, new) in names.items():
        log = log.replace(f'"{key}": "{old}"', f'"{key}": "{new}"')
    if HASHED.fullmatch(ran_on):  # a plain id may also be that of a folder of raw data
        log = log.replace(ran_on, row.dataset_id)
    return log.replace(f"/{run.expid}.", f"/{row.expid}.")


def _differences(ran_with):
    """A line where this machine, off which the environment is read, is not what the runs ran on."""
    here = collect_versions()
    return [
        f"caution: the runs had {name} {value}, here is {here.get(name)}; environments.txt has the former"
        for name, value in ran_with.items()
        if here.get(name) != value
    ]
