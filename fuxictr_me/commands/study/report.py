"""``fuxictr-me study report``: report the finished runs of a study."""

import argparse

HELP = "write tables, tests and figures of finished runs"
DESCRIPTION = """\
Report the finished runs of a study: the paper's table for your runs, paired
differences with confidence intervals, and figures, as HTML, Markdown, csv and
LaTeX.

Reads the folder of the study. Writes report/ in it, or --out. Needs the
[report] extra."""
EXAMPLE = "fuxictr-me study report my_study"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``study report``."""
    parser.add_argument("folder", metavar="DIR", help="folder of the study")
    parser.add_argument("--out", metavar="DIR", help="folder to write (default: <folder of the study>/report)")


def run(arguments: argparse.Namespace) -> str:
    """Write the report."""
    from fuxictr_me.reports.study.report import write_study_report

    return write_study_report(arguments.folder, arguments.out)
