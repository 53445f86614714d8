"""``fuxictr-me host``: run a script of FuxiCTR with fuxictr-me's models in its model zoo."""

import argparse

HELP = "run a FuxiCTR script with these models in its zoo"
DESCRIPTION = """\
Run an unmodified script of FuxiCTR, e.g. FuxiCTR/experiment/run_expid.py.

The models of fuxictr-me are added to the script's model zoo, and `callbacks:`
in a config works for every model. The script reads and writes what it always
does. Nothing in the FuxiCTR checkout is changed."""
EXAMPLE = "fuxictr-me host FuxiCTR/experiment/run_expid.py --config my_config --expid DCNv2_ME_test"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``host``."""
    parser.add_argument("script", metavar="SCRIPT", help="path of the script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")


def run(arguments: argparse.Namespace) -> None:
    """Run the script."""
    from fuxictr_me.zoo.host import run_script

    run_script(arguments.script, arguments.arguments)
