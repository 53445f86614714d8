"""Check the README and the user guide: their commands and Python run, and their links and options exist.

Each page is followed from top to bottom in an empty folder. Lines ``$ ...`` of a ``console`` block are run and must
end with exit code 0, or with that of a comment ``# exit code N``. Other lines of such a block are output, which is not
compared. A ``python`` or ``yaml`` block with a ``title`` is written to that file. Other ``python`` blocks are run, one
after the other in one namespace. ``prepare_<page>`` makes the files that a reader would have.
"""

import argparse
import importlib
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from helpers.forked_processes import run_forked
from helpers.paths import ROOT
from helpers.sample_files import write_sample
from helpers.versions import needs_export

import fuxictr_me
from fuxictr_me.commands.main import main
from fuxictr_me.commands.parser import OLD_NAMES, build_parser
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.quickstart import run_quickstart
from fuxictr_me.reports.collapse import captioned_figures as of_collapse
from fuxictr_me.reports.study import captioned_figures as of_study
from fuxictr_me.study.plan_file import write_plan
from fuxictr_me.study.progress import read_progress
from fuxictr_me.study.study_file import read_study
from fuxictr_me.study.study_layout import lay_out_study

DOCS = ROOT / "docs"
GUIDE = {path.stem: path for path in sorted(DOCS.glob("*.md"))}
PAGES = {"README": ROOT / "README.md", **GUIDE}
FOLDERS = ("model_zoo", "dataset_configs")
PROSE = [
    *PAGES.values(),
    ROOT / "examples" / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(ROOT.glob("benchmarks/*.md")),
]
PROSE += [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("README.md"))]
KINDS = ("console", "python", "yaml", "text")
BLOCK = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = {
    "pip install fuxictr-me": "asks the package index",
    "pip install -c constraints.txt -e .": "asks the package index, and is typed in a checkout",
    "pip install -c constraints.txt -e '.[report]'": "the same",
    "make run": "makes an environment from the package index, in a checkout",
    "make test": "would run this test",
    "make docs": "is typed in a checkout; test_the_site_builds_without_a_warning runs what it runs",
    "tensorboard --logdir checkpoints": "serves until it is interrupted",
}
SLOW = {
    "fuxictr-me quickstart": "trains for minutes",
    "torchrun --nproc-per-node 2 -m fuxictr_me run_expid --expid DNN_ME_test --engine set-parallel --gpu -1": "imports",
    "torchrun --nproc-per-node 2 -m fuxictr_me run_expid --expid DNN_ME_test --engine sharded --resume": (
        "imports torch three times; test_torchrun_trains_on_shares_of_h5 runs the like"
    ),
    "fuxictr-me study --models DNN_ME --scales 1,4 --seeds 5 --dataset criteo_paper --dry-run": "predicts large models",
    "fuxictr-me study my_config/study.yaml": "28 runs",
    "fuxictr-me study report study": "of these runs",
    "fuxictr-me bars check entries/DNN_ME_frappe_x1 --run": "trains in a process of its own",
}


class Block(NamedTuple):
    """A fenced block: its language, the file it is written to (or ""), its text."""

    kind: str
    title: str
    text: str


def blocks(page):
    return [Block(*match) for match in BLOCK.findall(page.read_text())]


def commands(block):
    """(command, expected exit code) of each line ``$ ...``; a backslash at its end joins the next line."""
    for line in re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE):
        command, _, comment = line.replace("\\\n", " ").partition(" # exit code ")
        yield command.strip(), int(comment or 0)


CONSOLES = [(name, block) for name, page in PAGES.items() for block in blocks(page) if block.kind == "console"]
COMMANDS = {command: name for name, block in CONSOLES for command, _ in commands(block)}  # -> a page that has it


# --- what a reader has at hand -----------------------------------------------------------------------------


def write_clicks():
    """A file of clicks with times, for ``init``."""
    random = np.random.default_rng(1)
    lines = ["ts,user,item,price,click"]
    for hour in range(400):
        user, item = random.integers([30, 20])
        price = round(random.uniform(5, 90), 1)
        click = int(random.random() < (0.5 if (user + item) % 3 == 0 else 0.2))
        lines.append(f"2024-05-{1 + hour // 24:02d}T{hour % 24:02d}:00:00Z,u{user},i{item},{price},{click}")
    Path("clicks.csv").write_text("\n".join(lines) + "\n")


def prepare_README(monkeypatch, slow):
    write_clicks()


def prepare_your_data(monkeypatch, slow):
    """Clicks in a shop, in the columns that the page shows."""
    write_clicks()
    random = np.random.default_rng(0)
    Path("my_data").mkdir()
    for split, rows in (("train", 600), ("valid", 200), ("test", 200)):
        lines = ["user,item,category,hour,price,history,click"]
        for _ in range(rows):
            user, item, category, hour = random.integers([50, 30, 4, 24])
            history = "^".join(f"i{i}" for i in random.integers(30, size=random.integers(4)))
            click = int(random.random() < (0.5 if (user + item) % 3 == 0 else 0.2))
            category = ("books", "shoes", "toys", "tea")[category]
            lines.append(f"u{user},i{item},{category},{hour},{random.uniform(5, 90):.1f},{history},{click}")
        Path(f"my_data/{split}.csv").write_text("\n".join(lines) + "\n")


def prepare_quickstart(monkeypatch, slow):
    """But for the slow test, a hundredth of the flights in place of a tenth: test_quickstart.py takes more."""
    if not slow:
        monkeypatch.setitem(run_quickstart.__globals__, "FAST_FRACTION", 0.01)


def prepare_shop(monkeypatch, slow):
    """The files and configs of ``your_data``."""
    prepare_your_data(monkeypatch, slow)
    for block in blocks(PAGES["your_data"]):
        if block.title:
            write(block)


def prepare_report(monkeypatch, slow):
    """Its runs, too."""
    prepare_shop(monkeypatch, slow)
    for expid in ("SE_4x", "ME_4x"):
        assert main(["run_expid", "--config", "my_config", "--expid", expid]) == 0


def prepare_study(monkeypatch, slow):
    """The same configs; and, but for the slow test, a study that lacks no run: a process for each takes seconds."""
    prepare_shop(monkeypatch, slow)
    if slow:
        return
    write(next(block for block in blocks(PAGES["study"]) if block.title))
    folder = Path(Path("shop.yaml").stem)
    folder.mkdir()
    plan = lay_out_study(read_study("shop.yaml"), folder)
    write_plan(plan, folder)
    with change_directory(folder):
        while due := read_progress(plan, Path()).due:
            for run in due:
                assert main(["run_expid", "--config", run.config, "--expid", run.expid]) == 0


def prepare_bars(monkeypatch, slow):
    """A few rows of Frappe."""
    write_sample("frappe_x1", Path("data/Frappe_x1"))


def prepare_bars_data(monkeypatch, slow):
    """A few rows in the form of the published files, which pass for them: md5 tells what is published."""
    write_sample("frappe_x1", Path("data/Frappe_x1"))
    write_sample("criteo_x4", Path("Downloads/Criteo_x4"))
    published = {}
    for name in ("frappe_x1", "criteo_x4"):
        content = yaml.safe_load((ROOT / "dataset_configs" / name / "files.json").read_text())
        published |= {(content["folder"], file): entry["md5"] for file, entry in content["files"].items()}
    monkeypatch.setattr(
        "fuxictr_me.data.verify_set.hash_file", lambda path, *_, **__: published[path.parent.name, path.name]
    )


def prepare_callbacks(monkeypatch, slow):
    """A checkout of FuxiCTR, with a script that goes as far as finding its model, as ``run_expid.py`` does."""
    script = Path("FuxiCTR/experiment/run_expid.py")
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)


def prepare_any_model(monkeypatch, slow):
    """The same, with an AutoInt in its model zoo."""
    prepare_callbacks(monkeypatch, slow)
    zoo = Path("FuxiCTR/experiment/model_zoo/__init__.py")  # found from there without FuxiCTR's change of sys.path
    zoo.parent.mkdir()
    zoo.write_text("from fuxictr.pytorch.models import BaseModel\nclass AutoInt(BaseModel): pass\n")
    Path("zoo_config").mkdir()
    Path("zoo_config/dataset_config.yaml").write_text("tiny_flights: {data_root: ./data/}\n")


SCRIPT = """
import os, sys
os.chdir(os.path.dirname(os.path.realpath(__file__)))
import model_zoo
from fuxictr.utils import load_config
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print(getattr(model_zoo, load_config(options["--config"], options["--expid"])["model"]))
"""


# --- following a page --------------------------------------------------------------------------------------


@pytest.fixture
def page_folder(own_folder, monkeypatch):
    """An empty working directory, out of which modules can be imported, and are forgotten."""
    before = set(sys.modules)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    yield
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or ROOT).is_relative_to(Path.cwd()):
            del sys.modules[name]


def follow(page, monkeypatch, slow=False):
    """Do what the page says."""
    if prepare := globals().get(f"prepare_{page.stem}"):
        prepare(monkeypatch, slow)
    if not slow:
        draw_few_figures(monkeypatch)
    folder, namespace = str(Path.cwd()), {"__name__": page.stem}
    for block in blocks(page):
        if block.title:
            write(block)
        elif block.kind == "console":
            for command, code in commands(block):
                if command not in NOT_RUN and (slow or command not in SLOW):
                    assert run(command, monkeypatch) == code, command
        elif block.kind == "python":
            with monkeypatch.context() as patch:
                patch.syspath_prepend(folder)
                exec(compile(block.text, str(page), "exec"), namespace)


def draw_few_figures(monkeypatch):
    """Let reports have their first figure alone: drawing takes most of their time. tests/reports draws all."""
    for report in (of_collapse, of_study):
        draw = report.draw_figures
        monkeypatch.setattr(report, "draw_figures", lambda *given, draw=draw: itertools.islice(draw(*given), 1))


def write(block):
    """A block to the file of its title."""
    Path(block.title).parent.mkdir(parents=True, exist_ok=True)
    Path(block.title).write_text(block.text)


def run(command, monkeypatch):
    """The exit code of a command; ``fuxictr-me`` runs in this process, which has imported torch already."""
    words = shlex.split(command)
    if words[0] == "cd":
        monkeypatch.chdir(words[1])
        return 0
    path = words.pop(0).partition("PYTHONPATH=")[2] if words[0].startswith("PYTHONPATH=") else None
    if words[:2] == ["fuxictr-me", "host"] and not path:  # in a process of its own, as scripts change what they like
        return run_forked(*words[1:]).returncode
    if words[:2] == ["fuxictr-me", "host"] or words[0] != "fuxictr-me":
        return subprocess.run(["bash", "-c", command], check=False).returncode
    with monkeypatch.context() as patch:
        if path:
            patch.syspath_prepend(str(Path(path).resolve()))
        try:
            return main(words[1:])
        except SystemExit as ended:
            return ended.code


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_export) if n == "serving" else n for n in PAGES])
def test_a_page_does_what_it_says(name, page_folder, monkeypatch):
    follow(PAGES[name], monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({COMMANDS[command] for command in SLOW if command in COMMANDS}))
def test_a_page_does_what_it_says_slow_commands_too(name, page_folder, monkeypatch):
    follow(PAGES[name], monkeypatch, slow=True)


def test_what_is_not_run_is_still_there():
    assert not (set(NOT_RUN) | set(SLOW)) - set(COMMANDS)


# --- the text ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_block_is_of_a_kind_that_is_tested(page):
    text, found = page.read_text(), blocks(page)
    assert text.count("```") == 2 * len(found)
    for block in found:
        assert block.kind in KINDS, block
        if block.kind == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)
        if block.kind == "console":
            assert block.text.startswith("$ ")
    assert not re.findall(r"^ {4}(?:\$ |fuxictr-me|pip |make )", BLOCK.sub("", text), re.MULTILINE)


@pytest.mark.parametrize("page", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_line_of_prose_is_longer_than_120_characters(page):
    """Tables, code, headings and pictures are not prose; the target of a link does not count."""
    prose = re.sub(r"\]\([^)\s]+\)", "]", BLOCK.sub("", page.read_text()))
    lines = [
        line for line in prose.splitlines() if not line.lstrip().startswith(("|", "#", "![")) and line[:4] != "    "
    ]
    assert [line for line in lines if len(line) > 120] == []


def test_the_readme_is_a_first_screen_with_short_python():
    text = PAGES["README"].read_text()
    (python,) = [block for block in blocks(PAGES["README"]) if block.kind == "python"]
    assert len(text.splitlines()) < 120
    assert len([line for line in python.text.splitlines() if line.strip()]) <= 10


def test_contributing_names_files_and_functions_that_exist():
    """``file.py`` in backticks is a file of the package; a name in backticks behind it on its line is defined there."""
    prose = re.sub(r"\n {3,}(?=\S)", " ", BLOCK.sub("", (ROOT / "CONTRIBUTING.md").read_text()))
    walks = prose.partition("## Follow a batch")[2].partition("## Adding a model")[0]
    for line in prose.splitlines():
        for file in re.findall(r"`((?:[\w.]+/)*\w+\.py)`", line):
            assert (ROOT / file).is_file() or (ROOT / "fuxictr_me" / file).is_file() or "nfm" in file, file
    steps = re.findall(r"^\d+\. (.*)$", walks, re.MULTILINE)
    assert len(steps) == 31
    for step in steps:
        for file, name in re.findall(r"`([\w/]+\.py)`(?:: |\): | \()`(\w+)`", step):
            text = (ROOT / "fuxictr_me" / file).read_text()
            assert re.search(rf"(?:def|class) {name}\b", text), f"{file}: {name}"


@pytest.mark.parametrize("page", [*PAGES.values(), ROOT / "CONTRIBUTING.md"], ids=[*PAGES, "CONTRIBUTING"])
def test_links_and_pictures_lead_somewhere(page):
    prose = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", file.read_text()), re.MULTILINE)
            slugs = {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_figures_are_measured_ones(page):
    """A number of three decimals or more is a result, and stands in benchmarks/RESULTS.md."""
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    prose = re.sub(r"\]\([^)]*\)", "]", BLOCK.sub("", page.read_text()))
    for decimals in re.findall(r"(?<![\d.])\d*(\.\d{3,})(?![\d.])", prose):
        assert re.search(rf"(?<![\d.])0?{re.escape(decimals)}(?!\d)", results), decimals


def test_every_page_is_in_the_navigation():
    def pages(entry):
        if isinstance(entry, dict):
            entry = list(entry.values())
        return [entry] if isinstance(entry, str) else [page for part in entry for page in pages(part)]

    named = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert len(named) == len(set(named))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert written <= set(named)
    assert all((ROOT / page).is_file() for page in set(named) - written)  # which docs/hooks.py brings in


def test_the_site_builds_without_a_warning_and_without_the_network(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # material's word on its own future
    done = subprocess.run(build, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    built = list((tmp_path / "site").rglob("*.html"))
    assert {f"{name}.html" for name in GUIDE} <= {path.name for path in built}
    for page in built:
        fetched = re.findall(r"<(?:script|img|link)[^>]*?(?:src|href)=\"?(?:https?:)?//[^\">]+", page.read_text())
        assert not [tag for tag in fetched if 'rel="canonical"' not in tag], page


# --- commands and options ----------------------------------------------------------------------------------


def parsers(parser=None, words=()):
    """(words of a command) -> its parser, of every command; () is ``fuxictr-me`` itself."""
    parser = parser or build_parser()
    found = {words: parser}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found |= parsers(inner, (*words, name))
    return found


PARSERS = parsers()


def options(parser):
    return {option for action in parser._actions for option in action.option_strings if option.startswith("--")}


def mentions():
    """(page, command or code span) that begins with ``fuxictr-me``."""
    for name, page in PAGES.items():
        spans = re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text()))
        typed = [command for command, of_page in COMMANDS.items() if of_page == name]
        for text in spans + typed:
            text = re.sub(r"^PYTHONPATH=\S+ |^torchrun .*-m fuxictr_me(?= )", "", text)
            text = f"fuxictr-me{text}" if text.startswith(" ") else text
            words = shlex.split(text, comments=True) if "fuxictr-me " in text else []
            if words[:1] == ["fuxictr-me"]:
                words = words[1:]
                if words[:1] == ["study"] and ("study", *words[1:2]) not in PARSERS:
                    words.insert(1, "run")  # for which ``study FILE`` is short
                yield name, words


@pytest.mark.parametrize(("page", "words"), list(mentions()))
def test_commands_and_options_that_are_mentioned_exist(page, words):
    command = max((c for c in PARSERS if tuple(words[: len(c)]) == c), key=len)
    rest = words[len(command) :]
    has_commands = any(isinstance(action, argparse._SubParsersAction) for action in PARSERS[command]._actions)
    placeholders = not rest or rest[0].startswith("--") or rest[0].isupper()
    assert not has_commands or placeholders, f"{page}: no such command: {' '.join(words)}"
    if command != ("host",):  # of which the script has options of its own
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= options(PARSERS[command])


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_options_that_stand_alone_exist(page):
    known = set.union(*(options(parser) for parser in PARSERS.values()))
    assert set(re.findall(r"`(--[\w-]+)", BLOCK.sub("", page.read_text()))) <= known


@pytest.mark.parametrize("command", [c for c in PARSERS if c and c[0] not in OLD_NAMES], ids=" ".join)
def test_the_reference_has_every_command_with_every_option(command):
    sections = re.split(r"^#+ ", PAGES["commands"].read_text(), flags=re.MULTILINE)
    section = next((text for text in sections if text.splitlines()[:1] == [" ".join(command)]), None)
    assert section is not None
    named = set(re.findall(r"`(--[\w-]+)", section))
    assert named == options(PARSERS[command]) - {"--help"}


def test_the_api_reference_has_every_public_name():
    described = re.findall(r"^::: ([\w.]+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert set(fuxictr_me.__all__) <= {name.rpartition(".")[2] for name in described}
    for name in described:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_extra_packages_of_the_guide_exist():
    """Extras that the pages name are in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r"fuxictr-me\[(\w+)\]", "".join(page.read_text() for page in PAGES.values())))
    assert named and all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in named)
