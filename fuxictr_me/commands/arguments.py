"""The arguments of ``fuxictr-me``; every command and option says what it does."""

import argparse

from fuxictr_me import __version__
from fuxictr_me.commands import schema
from fuxictr_me.commands.bars import add_bars


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """Parse the command line, and refuse an empty text, which an unset variable of a shell leaves behind.

    Raises:
        SystemExit: with code 2, after one line that names the argument.
    """
    parser = build_parser()
    parsed = parser.parse_args(argv)
    for name, value in vars(parsed).items():
        if name != "arguments" and (value == "" or (isinstance(value, list) and "" in value)):
            parser.error(f"argument {name.replace('_', '-')}: must not be empty")
    return parsed


def build_parser():
    """The parser of ``fuxictr-me``."""
    parser = argparse.ArgumentParser(
        prog="fuxictr-me",
        description="Multi-embedding CTR models for FuxiCTR, and a measure of whether embeddings collapse.",
        epilog="Exit codes: 0 done, 1 the run failed, 2 wrong usage, 130 interrupted, 143 terminated.",
    )
    parser.add_argument("--version", action="version", version=f"fuxictr-me {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run_expid",
        help="train and evaluate one experiment of a config folder",
        description="Train and evaluate one experiment. Log, checkpoint and IA file go to "
        "<model_root>/<dataset_id>/, the result row to <config folder's name>.csv in the working directory.",
    )
    run.add_argument(
        "--config",
        help="folder of model_config.yaml and dataset_config.yaml (default: the bundled entry that has EXPID)",
    )
    run.add_argument("--expid", required=True, help="experiment id, e.g. DCNv2_ME_test")
    _add_gpu(run)
    run.add_argument(
        "--engine",
        choices=("set-parallel", "sharded", "ddp", "auto"),
        help="how several processes, which torchrun starts, share the run: set-parallel gives each some of the sets; "
        "sharded some rows of all tables and of each batch; ddp rows of each batch alone; auto takes what is estimated "
        "to be fastest of what fits, and says why",
    )
    run.add_argument(
        "--set-groups",
        type=int,
        metavar="S",
        help="with --engine set-parallel: divide the sets over S groups of processes, and rows within a group "
        "(default: as many groups as processes, if there are as many sets)",
    )
    run.add_argument("--resume", action="store_true", help="with --engine: go on after the last finished epoch")

    host = commands.add_parser(
        "host",
        help="run an unmodified FuxiCTR script with our models in its model zoo",
        description="Run an unmodified FuxiCTR script, e.g. FuxiCTR/experiment/run_expid.py, with our models in "
        "its model zoo beside its own. `callbacks:` in a config then works for every model.",
    )
    host.add_argument("script", help="path of the script")
    host.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script")

    quick = commands.add_parser(
        "quickstart",
        help="single against multi-embedding on real data, in minutes",
        description="Train DCNv2 on 327,346 flights (not CTR data, but real and free): SE 1x, SE 4x and ME 4x; "
        "end with a table and a picture of accuracy and collapse.",
    )
    quick.add_argument(
        "--fast", action="store_true", help="a tenth of the data, small networks, one epoch: a smoke test"
    )
    quick.add_argument("--out", default="quickstart", help="folder to work in (default: ./quickstart)")
    _add_gpu(quick)
    quick.add_argument("--seed", type=int, default=2024, help="of the three runs (default: 2024)")

    zoo = commands.add_parser(
        "zoo",
        help="list the bundled model zoo, or copy an entry to start from",
        description="List the bundled model zoo; with MODEL and FOLDER, copy that entry's config there.",
    )
    zoo.add_argument("model", nargs="?", help="e.g. DCNv2_ME")
    zoo.add_argument("folder", nargs="?", help="folder to copy the config to (must not exist)")
    schema.add_arguments(commands.add_parser("schema", help=schema.HELP, description=schema.DESCRIPTION))
    _add_data_commands(commands)
    _add_collapse_commands(commands)
    _add_export(commands)
    _add_plan(commands)
    _add_study(commands)
    add_bars(commands)
    return parser


def _add_data_commands(commands):
    data = commands.add_parser(
        "data",
        help="build, look at, verify, convert or generate data sets",
        description="H5 data sets: from csv or parquet, from FuxiCTR's own ids of any version, or generated.",
    )
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = actions.add_parser(
        "build",
        help="csv or parquet to H5, with FuxiCTR's ids",
        description="Build <out>/<DATASET_ID>/ as H5 through FuxiCTR's FeatureProcessor, in bounded memory.",
    )
    build.add_argument("dataset_id", help="an entry of dataset_config.yaml, e.g. criteo_x4_001")
    build.add_argument("--config", help="dataset_config.yaml or its folder (default: the bundled entry)")
    build.add_argument("--raw", help="folder of the csv or parquet files (default: the paths of the config)")
    build.add_argument("--out", help="data_root to build in (default: that of the config)")
    info = actions.add_parser("info", help="what a built data set holds")
    info.add_argument("folder", help="of the set, e.g. data/criteo_x4_001")
    verify = actions.add_parser(
        "verify",
        help="check a built set against its manifest, or published csv files against their md5",
        description="Exit code 1 where a file differs. Published data sets go by their folder's name, e.g. Criteo_x4.",
    )
    verify.add_argument("folder", help="of a built set, or of the published csv files")
    convert = actions.add_parser(
        "convert",
        help="FuxiCTR's H5 (1.x to 2.1), npz or parquet ids to H5",
        description="Write the ids of a built data set as H5; no raw data are needed.",
    )
    convert.add_argument("source", help="folder with feature_map.json and the splits")
    convert.add_argument("target", help="folder to write (must not exist)")
    generate = actions.add_parser(
        "generate",
        help="Criteo-shaped data with planted interactions of known rank",
        description="For benchmarks and tests of collapse; 80 / 10 / 10 % of the rows train, valid, test.",
    )
    generate.add_argument("--out", required=True, help="folder to write (must not exist)")
    generate.add_argument("--rows", type=int, default=1_000_000, help="of all splits together (default: 1000000)")
    generate.add_argument("--num-fields", type=int, default=39, help="(default: 39)")
    generate.add_argument("--num-ids", type=int, default=1_000_000, help="of all fields together (default: 1000000)")
    generate.add_argument("--rank", type=int, default=4, help="of each planted interaction (default: 4)")
    generate.add_argument("--exponent", type=float, default=1.05, help="of the ids' power law (default: 1.05)")
    generate.add_argument("--seed", type=int, default=0, help="(default: 0)")


def _add_collapse_commands(commands):
    analyze = commands.add_parser(
        "analyze",
        help="the collapse report of a trained FuxiCTR model, ours or not",
        description="Which embeddings are collapsed, and what may be the cause: report.html, which needs no network, "
        "with json, csv and pictures, in <model_root>/<dataset_id>/<EXPID>.collapse/. Needs the [report] extra.",
    )
    _add_experiment(analyze)
    analyze.add_argument("--checkpoint", help="weights of the model (default: where the run left them)")
    analyze.add_argument("--compare", nargs="+", default=[], metavar="EXPID", help="other runs to set beside it")
    analyze.add_argument("--out", help="folder to write (default: <EXPID>.collapse beside the checkpoint)")
    analyze.add_argument("--data", action="store_true", help="also weigh ids by how often training met them")
    _add_gpu(analyze)

    export = commands.add_parser(
        "export-embeddings",
        help="the embedding tables of a run, id by id with raw values",
        description="A file a field: id, raw value, and the embedding in each set.",
    )
    _add_experiment(export)
    export.add_argument("--out", required=True, help="folder to write (must not exist)")
    export.add_argument("--checkpoint", help="weights of the model (default: where the run left them)")
    export.add_argument("--fields", nargs="+", metavar="FIELD", help="only these (default: all)")
    export.add_argument("--format", default="parquet", choices=("parquet", "npz"), help="(default: parquet)")

    convert = commands.add_parser(
        "convert",
        help="what runs on several processes resume from, to a checkpoint of one machine, and back",
        description="SOURCE is a folder <expid>.resume, whose last weights go to the checkpoint TARGET, which every "
        "command takes; or a checkpoint, whose weights go to the folder TARGET, from which run_expid --engine ... "
        "--resume starts. Folders hold a pickle that PyTorch reads: convert your own alone.",
    )
    convert.add_argument("source", metavar="SOURCE", help="a folder to resume from, or a checkpoint")
    convert.add_argument("target", metavar="TARGET", help="what is written; must not be there")

    toy = commands.add_parser(
        "toy",
        help="the paper's toy experiment: a field of few ids collapses another",
        description="Train the first table of a factorisation machine beside a third field of 3 and of 100 ids, and "
        "draw its information abundance. Needs the [report] extra.",
    )
    toy.add_argument("--out", default="toy", help="folder for toy.png and toy.svg (default: ./toy)")
    toy.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    toy.add_argument("--iterations", type=int, default=5000, help="full-batch steps (default: 5000)")


def _add_export(commands):
    export = commands.add_parser(
        "export",
        help="a finished run for a server: onnx, pt2 or safetensors, with the vocabulary of raw values",
        description="Write a folder with the model, for any number of rows at a time, vocabulary.json, which turns raw "
        "values into ids, and predict.py, which runs both without FuxiCTR. The model is compared with the run's own "
        "first. Needs the [serving] extra.",
    )
    _add_experiment(export)
    export.add_argument("--format", default="onnx", choices=("onnx", "pt2", "safetensors"), help="(default: onnx)")
    export.add_argument("--out", required=True, help="folder to write (must not exist)")
    export.add_argument("--checkpoint", help="weights of the model (default: where the run left them)")


def _add_plan(commands):
    plan = commands.add_parser(
        "plan",
        help="what a run will take: parameters, memory, time of a step",
        description="Predict parameters, bytes, FLOPs and the floor of a step's time, without allocating them.",
    )
    _add_experiment(plan)
    plan.add_argument("--gpu-model", default="H100", help="whose memory and speed to count with (default: H100)")
    plan.add_argument("--vocabulary", help="json file, field: ids (default: of the built set, or as published)")


def _add_study(commands):
    study = commands.add_parser(
        "study",
        help="does multi-embedding scale on your data? models x kinds x sizes x seeds, with a report",
        description="Run single and multi-embedding models at several sizes with several seeds, each run a process of "
        "its own, and report the differences. `fuxictr-me study FILE` is short for `fuxictr-me study run FILE`.",
    )
    actions = study.add_subparsers(dest="action", metavar="ACTION", required=True)
    run = actions.add_parser(
        "run",
        help="run a study, or go on with one",
        description="Run what is not finished yet. Killed at any point, the same command goes on. Options take the "
        "place of the file's settings. The folder holds tuner configs, which FuxiCTR's run_param_tuner.py runs too.",
    )
    run.add_argument("study", nargs="?", help="YAML file of the study, or the folder of one to go on with")
    run.add_argument("--out", help="folder of the study (default: the file's name without its ending)")
    run.add_argument("--dataset", metavar="ID", help="entry of dataset_config.yaml, of --config or bundled")
    run.add_argument("--config", help="folder of configs to start from (default: the bundled entry of each model)")
    run.add_argument("--models", metavar="A,B", help="as in a config, e.g. DCNv2_ME,AutoInt,my_model:WideDNN")
    run.add_argument("--kinds", metavar="A,B", help="of SE, ME, ensemble, ME-SI (default: SE,ME)")
    run.add_argument("--scales", metavar="A,B", help="times the embedding parameters of the base (default: 1,2,4,10)")
    run.add_argument("--seeds", help="how many of BARS' five, or which: 5, or 2024,2025 (default: 5)")
    run.add_argument(
        "--gpu", type=int, nargs="+", default=[-1], metavar="N", help="CUDA devices, -1: the CPU (default: -1)"
    )
    run.add_argument("--jobs", type=int, default=1, help="runs at a time on each device (default: 1)")
    run.add_argument(
        "--dry-run", action="store_true", help="list the runs with parameters, memory and time; run nothing"
    )
    run.add_argument("--retry-failed", action="store_true", help="run again what failed")
    run.add_argument("--changed", action="store_true", help="go on although finished runs have other settings")
    status = actions.add_parser("status", help="how far a study is")
    status.add_argument("folder", help="of the study")
    report = actions.add_parser(
        "report",
        help="tables, tests, figures and a page of what is finished",
        description="Write report/ into the study's folder: the paper's table of one's own runs, paired differences "
        "with confidence intervals, figures; as Markdown, csv, LaTeX and HTML. Needs the [report] extra.",
    )
    report.add_argument("folder", help="of the study")
    report.add_argument("--out", help="folder to write (default: <folder>/report)")


def _add_gpu(parser):
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")


def _add_experiment(parser):
    parser.add_argument("--config", help="folder of the configs (default: the bundled entry that has EXPID)")
    parser.add_argument("--expid", required=True, help="experiment id, e.g. DCNv2_ME_test")
