"""Keep the result of an earlier run that a new run of the same expid would overwrite.

FuxiCTR's expids do not distinguish all runs: they hash the sorted characters of the settings, which 0.1 and 1.0 share,
and nothing of the data (``fuxictr/autotuner.py``).
"""

import glob
import hashlib
import json
import sys
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.io.atomic import write_atomically
from fuxictr_me.runs.read_result import read_result
from fuxictr_me.study.plan_file import Plan, Run
from fuxictr_me.study.progress import is_planned

STATE = ".resume"  # belongs to the run that is starting, or is discarded elsewhere


def keep_other_result(run: Run, plan: Plan, folder: Path) -> None:
    """Give the files of a finished run another expid, ``<expid>_kept_<digest>``, if they are not of the planned run.

    They are not if settings or data differ. The result still counts for the run of the plan that has its settings and
    data, if there is one. If the process is killed halfway, the next call does the rest.

    Args:
        run: that is about to start.
        plan: of the study.
        folder: of the study.
    """
    path = folder / "checkpoints" / Path(plan.data_folder).name / f"{run.expid}.json"
    if path.is_symlink() or not path.is_file():
        return
    content = read_result(path)
    if content is None or is_planned(plan, run, content):
        return
    expid = f"{run.expid}_kept_{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    for other in path.parent.glob(f"{glob.escape(run.expid)}.*"):
        suffix = other.name.removeprefix(run.expid)
        if other.is_file() and not other.is_symlink() and suffix not in (path.suffix, STATE):
            other.rename(path.with_name(expid + suffix))
    content |= {"expid": expid, "checkpoint": str(path.with_name(f"{expid}.model").resolve())}
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path.with_name(f"{expid}.json"), lambda part: part.write_text(text))
    path.unlink()
    tqdm.write(f"{run.expid} has a result of other settings or data: it is kept as {expid}", file=sys.stderr)
