"""The command line: one module per command, with its arguments and its function.

Each module has ``HELP`` (one line for the list of commands), ``DESCRIPTION`` and ``EXAMPLE`` (for ``--help``),
``add_arguments(parser)`` and ``run(arguments)``, which returns the text to print, or None. ``data`` and ``study`` are
folders of such modules. ``parser.py`` lists the commands and ``main.py`` runs them.

Modules of this folder import torch, FuxiCTR and what needs them inside ``run`` alone: ``--help`` must answer at once.
"""
