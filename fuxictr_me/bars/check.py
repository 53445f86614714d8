"""``fuxictr-me bars check``: whether an entry of BARS, ours or a published one, is whole and agrees with itself.

Entries differ with age. FuxiCTR 1 hashed settings otherwise than FuxiCTR 2, its runs were numbered anew in the entries,
and those of five runs keep the config of the first alone: what these cannot show is said, and is no fault.
"""

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

from fuxictr_me.bars.environment import HEADINGS, NEEDED
from fuxictr_me.bars.finding import MISSING, OK, UNCHECKED, WRONG, Finding, judge
from fuxictr_me.bars.leaderboard import read_row
from fuxictr_me.bars.private import find_personal
from fuxictr_me.bars.reading import FILES, Entry, expid_hash, file_names
from fuxictr_me.bars.readme import SECTIONS
from fuxictr_me.bars.tuner import old_tuner_hash, tuner_hash
from fuxictr_me.errors import UsageError, missing

OF_OURS = ("run_expid.py", "leaderboard_row.csv")
ALSO_IN_OURS = (r"[^/]*tuner_config[^/]*\.(yaml|csv)", r".+\.py")  # of a grid, and a model's own code
TEXTS = (".md", ".txt", ".csv", ".log", ".py", ".yaml")
NOT_COMPARED = {"model_id", "model_root", "dataset_id", "gpu", "verbose", "data_root"}


def check_entry(folder):
    """Check an entry.

    Args:
        folder (str or Path): of the entry.

    Returns:
        list of Finding

    Raises:
        UsageError: no such folder.
    """
    if not Path(folder).is_dir():
        raise missing("entry", folder)
    findings = check_files(file_names(Path(folder)))
    if any(finding.is_bad for finding in findings):
        return findings
    entry = Entry(Path(folder))
    for check in (_environment, _readme, _results, _expids, _hashes, _seeds, _log, _leaderboard):
        try:
            findings += check(entry)
        except UsageError as error:  # of a YAML file, without which the rest cannot be checked
            findings.append(Finding(WRONG, "config", str(error)))
            break
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError, csv.Error) as error:
            told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            subject = check.__name__.strip("_")
            findings.append(Finding(WRONG, subject, f"a file holds what that of no entry does ({told})"))
    return [*findings, _personal(entry)]


def check_files(names):
    """Check that an entry has the files that all have.

    Args:
        names (list of str): paths inside the entry, with ``/``.

    Returns:
        list of Finding
    """
    found = {kind: [name for name in names if re.fullmatch(pattern, name)] for kind, pattern in FILES.items()}
    return [Finding(OK, some[0]) if some else Finding(MISSING, kind) for kind, some in found.items()]


def _environment(entry):
    lacking = [f"no {key}" for key in NEEDED if key not in entry.environment]
    lacking += [f"no {heading}" for heading in HEADINGS if heading not in entry.text("environments.txt")]
    yield judge("keys of environments.txt", lacking)
    if entry.is_ours:
        yield from (Finding(MISSING, name) for name in OF_OURS if name not in entry.names)
        yield judge("files", _odd_files(entry))


def _odd_files(entry: Entry) -> Iterator[str]:
    known = (*FILES.values(), *map(re.escape, OF_OURS), *ALSO_IN_OURS)
    for name in entry.names:
        if not any(re.fullmatch(pattern, name) for pattern in known):
            yield f"{name} is no file of an entry"
        elif (entry.folder / name).stat().st_size == 0:
            yield f"{name} is empty"
    logs = [name for name in entry.names if re.fullmatch(FILES["<expid>.log"], name)]
    yield from (f"{name} is a second log" for name in logs[1:])


def _readme(entry):
    text = entry.text("README.md")
    sections = [name for name in re.findall(r"^### (.+?)\s*$", text, re.MULTILINE) if name in SECTIONS]
    in_order = sections == list(SECTIONS)
    yield judge("sections of README.md", [] if in_order else [f"{sections} in place of {list(SECTIONS)}"])
    shown = text.partition("### Results")[2].partition("### Logs")[0]
    values = {f"{value:.6f}" for row in entry.rows for value in row.test.values()}
    yield judge("results in README.md", [f"no {value}" for value in sorted(values) if value not in shown])
    named = f"--expid {entry.log.name}" in text
    yield judge("command in README.md", [] if named else [f"it does not run {entry.log.name}"])
    if entry.is_ours:
        log = entry.text(f"{entry.log.name}.log").rstrip()
        yield judge("log in README.md", [] if log in text else [f"it is not {entry.log.name}.log"])


def _results(entry):
    problems = [f"line {i} is no result row" for i, row in enumerate(entry.lines, start=1) if row is None]
    yield judge(f"{len(entry.rows)} rows of results.csv", problems or ([] if entry.rows else ["it is empty"]))
    expids = [row.expid for row in entry.rows]
    if entry.is_ours:
        repeated = [expid for expid in dict.fromkeys(expids) if expids.count(expid) > 1]
        yield judge("one row of each run", [f"{expid} has {expids.count(expid)}" for expid in repeated])
    unknown = {row.dataset_id for row in entry.rows} - entry.datasets.keys()
    verdict = UNCHECKED if entry.is_old else WRONG
    yield judge("dataset_id in dataset_config.yaml", [f"no {dataset_id}" for dataset_id in sorted(unknown)], verdict)


def _expids(entry):
    unknown = [row.expid for row in entry.rows if entry.settings(row.expid) is None]
    subject = "expids in model_config.yaml"
    yield judge(subject, [f"no {expid}" for expid in unknown], UNCHECKED if entry.is_old else WRONG)
    if entry.is_old:
        known = entry.settings(entry.log.name) is not None
        yield judge("expid of the log in model_config.yaml", [] if known else [f"no {entry.log.name}"])


def _hashes(entry):
    settings = {row.expid: entry.settings(row.expid) for row in entry.rows}
    hashed = {expid: entry_settings for expid, entry_settings in settings.items() if entry_settings}
    hashed |= {row.dataset_id: entry.datasets[row.dataset_id] for row in entry.rows if row.dataset_id in entry.datasets}
    differ = [name for name, of in hashed.items() if expid_hash(name) not in (None, tuner_hash(of), old_tuner_hash(of))]
    verdict = UNCHECKED if entry.is_old else WRONG
    yield judge("hashes of expids and dataset_id", [f"{name} is not that of its settings" for name in differ], verdict)
    plain = [name for name in hashed if expid_hash(name) is None]
    if plain:
        yield Finding(UNCHECKED, "hashes", f"{', '.join(plain)} has none")


def _seeds(entry):
    named = [(row, entry.settings(row.expid)) for row in entry.rows if row.seed is not None]
    problems = [f"{row.expid} has seed {of.get('seed')}" for row, of in named if of and of.get("seed") != row.seed]
    rest = [{key: value for key, value in of.items() if key != "seed"} for _, of in named if of]
    problems += ["runs differ by more than the seed"] if any(of != rest[0] for of in rest) else []
    if named:
        yield judge("seeds", problems)


def _log(entry):
    log = entry.log
    renamed = [] if entry.same_run(log.name, log.expid) else [f"it is of {log.expid}"]
    yield judge(f"{log.name}.log", renamed, UNCHECKED if entry.is_old else WRONG)
    named = [row for row in entry.rows if entry.same_run(row.expid, log.expid)]
    for row in (named or entry.rows)[:1]:
        if not named:
            verdict = UNCHECKED if entry.is_old and row.test == log.test else WRONG
            yield Finding(verdict, "row of the log", f"none has {log.expid}")
        other = [] if log.settings.get("dataset_id") == row.dataset_id else ["it is not that of the row"]
        yield judge("data set of the log", other, UNCHECKED if entry.is_old else WRONG)
        yield judge("metrics of the log", [*_metrics("valid", row, log), *_metrics("test", row, log)])
        of_data = {} if entry.is_old else entry.datasets.get(row.dataset_id, {})  # FuxiCTR 1 read converted data
        of_run = entry.settings(row.expid)
        verdict = UNCHECKED if entry.is_old and of_run is None else WRONG  # by the name of the log, then
        of_run = of_run or entry.settings(log.name) or {}
        yield judge("settings of the log", _settings({**of_data, **of_run}, log.settings), verdict)


def _metrics(split, row, log):
    shown = getattr(log, split)
    for name, value in getattr(row, split).items():
        if shown.get(name) != value:
            yield f"{split} {name} is {value} in results.csv, {shown.get(name)} in the log"


def _settings(stated, shown):
    for key in sorted(stated.keys() & shown.keys() - NOT_COMPARED):
        if shown[key] != str(stated[key]) and _literal(shown[key]) != stated[key]:
            yield f"{key} is {shown[key]}, in the config {stated[key]}"


def _literal(text):
    """The value that FuxiCTR printed to a log: settings in settings stand in any order."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _leaderboard(entry):
    if "leaderboard_row.csv" in entry.names:
        row = read_row(entry.text("leaderboard_row.csv"))
        test = entry.rows[0].test if entry.rows else {}
        stated = {"AUC": f"{test.get('AUC', 0):.6f}", "Logloss": f"{test.get('logloss', 0):.6f}"}
        differ = [f"{column} is not {value}" for column, value in stated.items() if row.get(column) != value]
        yield judge("leaderboard_row.csv", differ)


def _personal(entry):
    found = {name: find_personal(entry.text(name)) for name in entry.names if name.endswith(TEXTS)}
    return judge("no personal path or name", [f"{text} in {name}" for name, text in found.items() if text])
