"""Keep the result of an earlier run that a new run of the same expid would overwrite.

FuxiCTR's expids do not distinguish all runs: they hash the sorted characters of the settings, which 0.1 and 1.0 share,
and nothing of the data (``fuxictr/autotuner.py``).
"""

import glob
import hashlib
import json
from pathlib import Path

from fuxictr_me.io.atomic import write_atomically
from fuxictr_me.runs.read_result import read_result
from fuxictr_me.study.plan_file import Plan, Run
from fuxictr_me.study.progress import is_planned

STATE = ".resume"  # belongs to the run that is starting, or is discarded elsewhere


def keep_other_result(run: Run, plan: Plan, folder: Path) -> str | None:
    """Give the files of a finished run another expid if they are of other settings or data than planned.

    The result still counts for the run of the plan that has its settings and data, if there is one. If the process is
    killed halfway, the next call does the rest.

    Args:
        run: that is about to start.
        plan: of the study.
        folder: of the study.

    Returns:
        the new expid, ``<expid>_kept_<digest>``; None if there is nothing to keep.
    """
    path = folder / "checkpoints" / Path(plan.data_folder).name / f"{run.expid}.json"
    if path.is_symlink() or not path.is_file():
        return None
    content = read_result(path)
    if content is None or is_planned(plan, run, content):
        return None
    expid = f"{run.expid}_kept_{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    for other in path.parent.glob(f"{glob.escape(run.expid)}.*"):
        suffix = other.name.removeprefix(run.expid)
        if other.is_file() and not other.is_symlink() and suffix not in (path.suffix, STATE):
            other.rename(path.with_name(expid + suffix))
    content["expid"] = expid
    if "checkpoint" in content:
        content["checkpoint"] = str(Path(content["checkpoint"]).with_name(f"{expid}.model"))
    write_atomically(
        path.with_name(f"{expid}.json"), lambda part: part.write_text(json.dumps(content, indent=2) + "\n")
    )
    path.unlink()
    return expid
