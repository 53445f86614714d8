"""Write a starter folder: the splits, two configs and a study for a file of clicks."""

import re
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.config.names import check_plain_name
from fuxictr_me.errors import UsageError
from fuxictr_me.io.atomic import atomic_folder
from fuxictr_me.starter.click_file import ClickFile, open_click_file
from fuxictr_me.starter.config_texts import write_dataset_config, write_model_config, write_study
from fuxictr_me.starter.guess_columns import ColumnGuess, check_column, guess_columns
from fuxictr_me.starter.split_rows import check_label, split_at_random, split_by_time, write_splits

SPLIT_FOLDER = "splits"


def write_starter(path: str | Path, label: str, time: str | None, out: str | Path, seed: int) -> str:
    """Look at a csv or parquet file and write a config folder that runs.

    Args:
        path: a file with a header and one row per impression, or a folder of such files.
        label: the column to predict, of 0 and 1.
        time: the column to split by; None splits at random.
        out: the folder to write; it must not exist.
        seed: of a random split.

    Returns:
        What was guessed, what was left out, and which commands come next.

    Raises:
        UsageError: one line, before anything is written.
    """
    target = Path(out)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already: name another folder with --out")
    clicks = open_click_file(path)
    check_column(clicks, "--label", label)
    if time is not None:
        check_column(clicks, "--time", time)
        if time == label:
            raise UsageError(f"--label and --time are both {label!r}")
    steps = tqdm(total=6, desc="label", unit="step", leave=False, disable=None)

    def finish(step: str) -> None:
        steps.set_description(step)
        steps.update()

    with steps:
        share = check_label(clicks, label)
        finish("columns")
        guesses = guess_columns(clicks, label, time)
        finish("split")
        split = split_by_time(clicks, time) if time else split_at_random(clicks, seed)
        dataset_id = _name_dataset(clicks.path)
        with atomic_folder(target) as folder:
            (folder / SPLIT_FOLDER).mkdir()
            finish("train")
            counts = write_splits(split, label, folder / SPLIT_FOLDER, finish)
            texts = {
                "dataset_config.yaml": write_dataset_config(
                    dataset_id, f"{target.resolve().name}/{SPLIT_FOLDER}", guesses, label, split.how
                ),
                "model_config.yaml": write_model_config(dataset_id, counts["train"]),
                "study.yaml": write_study(dataset_id, target.as_posix()),
            }
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")
    return describe(clicks, label, share, guesses, split.how, counts, target)


def describe(
    clicks: ClickFile,
    label: str,
    share: float,
    guesses: list[ColumnGuess],
    how: str,
    counts: dict[str, int],
    target: Path,
) -> str:
    """Return what was guessed, as text for the terminal."""
    rows = sum(counts.values())
    separated = f", separated by {clicks.separator!r}" if clicks.separator else ""
    width = max(len(guess.name) for guess in guesses)
    lines = [
        f"{clicks.path}: {rows:,} rows, {len(clicks.schema)} columns{separated}",
        f"label {label}: {share:.2%} are 1",
        f"split {how}",
        "rows " + ", ".join(f"{name} {count:,}" for name, count in counts.items()),
        "",
        f"{'column':<{width}}  {'guess':<11}  {'values':>10}  {'missing':>7}  why",
    ]
    for guess in guesses:
        values = "" if guess.distinct is None else f"{guess.distinct:,}"
        more = (
            f"; shares the table of {guess.settings['share_embedding']}" if "share_embedding" in guess.settings else ""
        )
        lines.append(
            f"{guess.name:<{width}}  {guess.kind:<11}  {values:>10}  {guess.missing:>7.1%}  {guess.reason}{more}"
        )
    lines += [
        "",
        f"Wrote dataset_config.yaml, model_config.yaml, study.yaml and the splits to {target}/.",
        "Read dataset_config.yaml and correct what was guessed wrongly. Then:",
        f"  fuxictr-me run_expid --config {target} --expid ME_4x    # one run",
        f"  fuxictr-me study {target}/study.yaml --dry-run    # what the study would run, and how long",
        f"  fuxictr-me study {target}/study.yaml              # single against multi-embedding on your data",
        "  fuxictr-me study report study                      # the verdict: study/report/report.html",
    ]
    return "\n".join(lines)


def _name_dataset(path: Path) -> str:
    """Return a plain name for the data set, from the name of its file."""
    name = re.sub(r"\W+", "_", path.name.split(".")[0], flags=re.ASCII).strip("_") or "clicks"
    check_plain_name("dataset_id", name)
    return name
