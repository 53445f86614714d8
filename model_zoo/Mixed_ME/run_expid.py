"""Run an experiment of this entry: ``python run_expid.py --expid EXPID --gpu -1 [--config FOLDER]``."""

from fuxictr_me.commands.main import run_entry

if __name__ == "__main__":
    run_entry(__file__)
