"""Check that an entry of BARS (from fuxictr-me, or a published one) is complete and consistent.

Old entries cannot show everything. FuxiCTR 1 hashed settings in another way, its runs were renumbered in the entries,
and entries with five runs only have the config of the first. Such checks have the verdict ``UNCHECKED``.
"""

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuxictr_me.bars.anonymize import find_personal
from fuxictr_me.bars.check_result import MISSING, OK, UNCHECKED, WRONG, CheckResult, judge
from fuxictr_me.bars.environment import HEADINGS, NEEDED
from fuxictr_me.bars.leaderboard_row import parse_leaderboard_row
from fuxictr_me.bars.read_entry import FILES, Entry, Log, find_hash, list_files
from fuxictr_me.bars.readme import SECTIONS
from fuxictr_me.bars.result_rows import ResultRow
from fuxictr_me.bars.tuner_names import old_tuner_hash, tuner_hash
from fuxictr_me.errors import UsageError, missing

OF_FUXICTR_ME = ("run_expid.py", "leaderboard_row.csv")
ALSO_IN_FUXICTR_ME = (r"[^/]*tuner_config[^/]*\.(yaml|csv)", r".+\.py")  # those of a grid, and the code of a model
TEXTS = (".md", ".txt", ".csv", ".log", ".py", ".yaml")
NOT_COMPARED = {"model_id", "model_root", "dataset_id", "gpu", "verbose", "data_root"}


def check_entry(folder: str | Path) -> list[CheckResult]:
    """Check an entry.

    Raises:
        UsageError: ``folder`` does not exist.
    """
    if not Path(folder).is_dir():
        raise missing("entry", folder)
    results = check_files(list_files(Path(folder)))
    if any(result.is_bad for result in results):
        return results
    entry = Entry(Path(folder))
    checks = (_check_environment, _check_readme, _check_results, _check_expids, _check_hashes, _check_seeds, _check_log)
    for check in (*checks, _check_leaderboard):
        try:
            results += check(entry)
        except UsageError as error:  # the rest cannot be checked without the YAML files
            results.append(CheckResult(WRONG, "config", str(error)))
            break
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError, csv.Error) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            subject = check.__name__.removeprefix("_check_")
            results.append(CheckResult(WRONG, subject, f"a file has unexpected content ({reason})"))
    return [*results, _check_personal(entry)]


def check_files(names: list[str]) -> list[CheckResult]:
    """Check that an entry has all ``FILES``; ``names`` are the paths in it, with ``/``."""
    matches = {kind: [name for name in names if re.fullmatch(pattern, name)] for kind, pattern in FILES.items()}
    return [CheckResult(OK, match[0]) if match else CheckResult(MISSING, kind) for kind, match in matches.items()]


def _check_environment(entry: Entry) -> Iterator[CheckResult]:
    lacking = [f"no {key}" for key in NEEDED if key not in entry.environment]
    lacking += [f"no {heading}" for heading in HEADINGS if heading not in entry.text("environments.txt")]
    yield judge("keys of environments.txt", lacking)
    if entry.is_from_fuxictr_me:
        yield from (CheckResult(MISSING, name) for name in OF_FUXICTR_ME if name not in entry.names)
        yield judge("files", _find_unexpected_files(entry))


def _find_unexpected_files(entry: Entry) -> Iterator[str]:
    """Yield what is wrong with the files of an entry that fuxictr-me wrote: unknown, empty, or a second log."""
    known = (*FILES.values(), *map(re.escape, OF_FUXICTR_ME), *ALSO_IN_FUXICTR_ME)
    for name in entry.names:
        if not any(re.fullmatch(pattern, name) for pattern in known):
            yield f"{name} does not belong to an entry"
        elif (entry.folder / name).stat().st_size == 0:
            yield f"{name} is empty"
    logs = [name for name in entry.names if re.fullmatch(FILES["<expid>.log"], name)]
    yield from (f"{name} is a second log" for name in logs[1:])


def _check_readme(entry: Entry) -> Iterator[CheckResult]:
    text = entry.text("README.md")
    sections = [name for name in re.findall(r"^### (.+?)\s*$", text, re.MULTILINE) if name in SECTIONS]
    in_order = sections == list(SECTIONS)
    yield judge("sections of README.md", [] if in_order else [f"{sections} instead of {list(SECTIONS)}"])
    shown = text.partition("### Results")[2].partition("### Logs")[0]
    values = {f"{value:.6f}" for row in entry.rows for value in row.test.values()}
    yield judge("results in README.md", [f"no {value}" for value in sorted(values) if value not in shown])
    runs_log = f"--expid {entry.log.name}" in text
    yield judge("command in README.md", [] if runs_log else [f"it does not run {entry.log.name}"])
    if entry.is_from_fuxictr_me:
        log = entry.text(f"{entry.log.name}.log").rstrip()
        yield judge("log in README.md", [] if log in text else [f"it differs from {entry.log.name}.log"])


def _check_results(entry: Entry) -> Iterator[CheckResult]:
    problems = [f"line {i} is not a result row" for i, row in enumerate(entry.lines, start=1) if row is None]
    yield judge(f"{len(entry.rows)} rows of results.csv", problems or ([] if entry.rows else ["it is empty"]))
    expids = [row.expid for row in entry.rows]
    if entry.is_from_fuxictr_me:
        repeated = [expid for expid in dict.fromkeys(expids) if expids.count(expid) > 1]
        yield judge("one row of each run", [f"{expid} has {expids.count(expid)}" for expid in repeated])
    unknown = {row.dataset_id for row in entry.rows} - entry.datasets.keys()
    verdict = UNCHECKED if entry.is_from_fuxictr_1 else WRONG
    yield judge("dataset_id in dataset_config.yaml", [f"no {dataset_id}" for dataset_id in sorted(unknown)], verdict)


def _check_expids(entry: Entry) -> Iterator[CheckResult]:
    unknown = [row.expid for row in entry.rows if entry.find_settings(row.expid) is None]
    subject = "expids in model_config.yaml"
    yield judge(subject, [f"no {expid}" for expid in unknown], UNCHECKED if entry.is_from_fuxictr_1 else WRONG)
    if entry.is_from_fuxictr_1:
        known = entry.find_settings(entry.log.name) is not None
        yield judge("expid of the log in model_config.yaml", [] if known else [f"no {entry.log.name}"])


def _check_hashes(entry: Entry) -> Iterator[CheckResult]:
    settings = {row.expid: entry.find_settings(row.expid) for row in entry.rows}
    hashed = {expid: entry_settings for expid, entry_settings in settings.items() if entry_settings}
    hashed |= {row.dataset_id: entry.datasets[row.dataset_id] for row in entry.rows if row.dataset_id in entry.datasets}
    differ = [
        name
        for name, values in hashed.items()
        if find_hash(name) not in (None, tuner_hash(values), old_tuner_hash(values))
    ]
    verdict = UNCHECKED if entry.is_from_fuxictr_1 else WRONG
    problems = [f"that of {name} does not fit its settings" for name in differ]
    yield judge("hashes of expids and dataset_id", problems, verdict)
    plain = [name for name in hashed if find_hash(name) is None]
    if plain:
        yield CheckResult(UNCHECKED, "hashes", f"{', '.join(plain)} has no hash")


def _check_seeds(entry: Entry) -> Iterator[CheckResult]:
    rows = [row for row in entry.rows if row.seed is not None]
    pairs = [(row, settings) for row in rows if (settings := entry.find_settings(row.expid))]
    problems = [f"{row.expid} has seed {s.get('seed')}" for row, s in pairs if s.get("seed") != row.seed]
    rest = [{key: value for key, value in settings.items() if key != "seed"} for _, settings in pairs]
    problems += ["runs differ in more than the seed"] if any(settings != rest[0] for settings in rest) else []
    if rows:
        yield judge("seeds", problems)


def _check_log(entry: Entry) -> Iterator[CheckResult]:
    log = entry.log
    renamed = [] if entry.is_same_run(log.name, log.expid) else [f"it is the log of {log.expid}"]
    yield judge(f"{log.name}.log", renamed, UNCHECKED if entry.is_from_fuxictr_1 else WRONG)
    matching = [row for row in entry.rows if entry.is_same_run(row.expid, log.expid)]
    for row in (matching or entry.rows)[:1]:
        if not matching:
            verdict = UNCHECKED if entry.is_from_fuxictr_1 and row.test == log.test else WRONG
            yield CheckResult(verdict, "row of the log", f"no row has {log.expid}")
        other = [] if log.settings.get("dataset_id") == row.dataset_id else ["the row has another"]
        yield judge("data set of the log", other, UNCHECKED if entry.is_from_fuxictr_1 else WRONG)
        yield judge("metrics of the log", [*_compare_metrics("valid", row, log), *_compare_metrics("test", row, log)])
        dataset = {} if entry.is_from_fuxictr_1 else entry.datasets.get(row.dataset_id, {})  # which FuxiCTR 1 converted
        settings = entry.find_settings(row.expid)
        verdict = UNCHECKED if entry.is_from_fuxictr_1 and settings is None else WRONG
        settings = settings or entry.find_settings(log.name) or {}
        yield judge("settings of the log", _compare_settings({**dataset, **settings}, log.settings), verdict)


def _compare_metrics(split: str, row: ResultRow, log: Log) -> Iterator[str]:
    shown = getattr(log, split)
    for name, value in getattr(row, split).items():
        if shown.get(name) != value:
            yield f"{split} {name} is {value} in results.csv, {shown.get(name)} in the log"


def _compare_settings(stated: dict[str, Any], shown: dict[str, str]) -> Iterator[str]:
    for key in sorted(stated.keys() & shown.keys() - NOT_COMPARED):
        if shown[key] != str(stated[key]) and _parse_literal(shown[key]) != stated[key]:
            yield f"{key} is {shown[key]}, but {stated[key]} in the config"


def _parse_literal(text: str) -> object:
    """Return the value that FuxiCTR printed to a log, so that nested settings may stand in any order."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _check_leaderboard(entry: Entry) -> Iterator[CheckResult]:
    if "leaderboard_row.csv" in entry.names:
        row = parse_leaderboard_row(entry.text("leaderboard_row.csv"))
        test = entry.rows[0].test if entry.rows else {}
        stated = {"AUC": f"{test.get('AUC', 0):.6f}", "Logloss": f"{test.get('logloss', 0):.6f}"}
        differ = [f"{column} is not {value}" for column, value in stated.items() if row.get(column) != value]
        yield judge("leaderboard_row.csv", differ)


def _check_personal(entry: Entry) -> CheckResult:
    personal = {name: find_personal(entry.text(name)) for name in entry.names if name.endswith(TEXTS)}
    return judge("no personal path or name", [f"{text} in {name}" for name, text in personal.items() if text])
