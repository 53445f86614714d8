"""Score a file of raw rows with a finished run: csv, parquet or JSON lines in, probabilities out, in bounded memory."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from fuxictr_me.compat import BaseModel
from fuxictr_me.config.training_settings import check_gpu
from fuxictr_me.config.value_kinds import find_duplicate
from fuxictr_me.data.building.encode_columns import count_rows, iterate_chunks
from fuxictr_me.data.building.processor import PreparingProcessor, explain_errors
from fuxictr_me.data.raw.find_files import is_parquet, raw_files, separator
from fuxictr_me.errors import UsageError, check_positive_int, unknown
from fuxictr_me.io.atomic import write_atomically
from fuxictr_me.runs.finished_run import FinishedRun, find_run
from fuxictr_me.runs.load_model import load_model
from fuxictr_me.serving.data_origin import DataOrigin, find_origin
from fuxictr_me.serving.encode_frame import FrameEncoder
from fuxictr_me.serving.vocabulary import make_vocabulary
from fuxictr_me.training.metrics import evaluate_metrics

JSON_LINES = (".json", ".jsonl", ".ndjson")
OUTPUTS = (".parquet", ".csv")
PLAIN_METRICS = ("AUC", "logloss", "binary_crossentropy", "MSE", "MAE", "RMSE")  # those that need no groups
CHUNK_ROWS = 100_000
KEPT = "␟kept"  # behind the names of copied columns, which may be those of encoded columns, too


def score_file(
    expid: str,
    config: str | None,
    data: str | Path,
    out: str | Path,
    checkpoint: str | None = None,
    keep: Sequence[str] = (),
    batch_size: int = 10_000,
    gpu: int = -1,
    overrides: Mapping[str, object] | None = None,
) -> str:
    """Predict every row of a file with the best weights of a run.

    Values that the vocabulary of training does not have get the id of unseen values.

    Args:
        expid, config: of a finished run of any model; the bundled entry that has ``expid`` if ``config`` is None.
        data: a csv, parquet or JSON-lines file, or a folder of csv or parquet, with the columns of the config. If the
            label is among them, the metrics of the run are computed.
        out: new ``.parquet`` or ``.csv`` file, with one row per row of ``data``, in the same order.
        checkpoint, overrides: weights, and settings of the config (see ``config.overrides``), in place of the run's.
        keep: columns of ``data`` to copy beside the predictions.
        batch_size: rows that the model takes at a time.
        gpu: CUDA device, or -1.

    Returns:
        How many rows were scored, and the metrics if there are labels.

    Raises:
        UsageError: one line, before anything is written.
    """
    out = _check_arguments(Path(out), batch_size, gpu)
    run = find_run(expid, config, checkpoint, overrides)
    origin = find_origin(run)
    encoder = FrameEncoder(make_vocabulary(run.feature_map, origin))
    model = load_model(run, gpu)
    scored: list[pl.DataFrame] = []  # predictions and labels: 16 bytes per row, and nothing without labels
    with contextlib.ExitStack() as stack:
        files = _as_tables(Path(data), stack)
        labels = _find_labels(files, origin, run)
        processor, rows = _preprocess(files, origin, labels, keep, run.params.get("task"))
        total = count_rows(rows)
        if not total:
            raise UsageError(f"{data} has no rows")
        bar = stack.enter_context(tqdm(total=total, desc="scoring", unit="row", unit_scale=True, disable=None))

        def write_scores(path: Path) -> None:
            with _Writer(path, is_csv=out.suffix.lower() == ".csv") as writer, explain_errors(processor, str(data)):
                for chunk in iterate_chunks(rows, CHUNK_ROWS):
                    processor.check_rows(chunk)
                    predictions = _predict(model, encoder.encode(chunk), batch_size)
                    writer.write(pl.DataFrame({name: chunk[_kept(name)] for name in keep} | predictions))
                    if labels:
                        scored.append(pl.DataFrame(predictions | {label: chunk[label] for label in labels}))
                    bar.update(len(chunk))

        write_atomically(out, write_scores)
    text = f"{total:,} rows scored by {run.expid} ({run.checkpoint}): {out}"
    return f"{text}\n{_describe_metrics(pl.concat(scored), labels, run.params)}" if labels else text


def _check_arguments(out: Path, batch_size: int, gpu: int) -> Path:
    check_positive_int("--batch-size", batch_size)
    check_gpu(gpu)
    if out.suffix.lower() not in OUTPUTS:
        raise UsageError(f"--out must end in {' or '.join(OUTPUTS)}, got {out}")
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out} exists already")
    return out


def _as_tables(data: Path, stack: contextlib.ExitStack) -> list[Path]:
    """Return csv or parquet files; JSON lines are first written as parquet to a temporary folder, row by row."""
    if not data.name.lower().endswith(JSON_LINES):
        return raw_files(data)
    if not data.is_file():
        raise UsageError(f"no file {data}")
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fuxictr-me-"))
    table = Path(folder) / f"{data.stem}.parquet"
    try:
        pl.scan_ndjson(data, infer_schema_length=None).sink_parquet(table)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{data} cannot be read as JSON lines: {str(error).splitlines()[0]}") from error
    return [table]


def _find_labels(files: list[Path], origin: DataOrigin, run: FinishedRun) -> list[str]:
    """Return the labels of the run if the files have all of them, else none."""
    header = _schema_of(files[0], origin)
    labels = list(run.feature_map.labels)
    return labels if set(labels) <= set(header) else []


def _schema_of(file: Path, origin: DataOrigin) -> list[str]:
    if is_parquet(file):
        return pl.scan_parquet(file, glob=False).collect_schema().names()
    separated = separator(file, origin.settings.get("sep"))
    return pl.scan_csv(file, separator=separated, infer_schema=False, glob=False).collect_schema().names()


def _preprocess(
    files: list[Path], origin: DataOrigin, labels: list[str], keep: Sequence[str], task: Any
) -> tuple[PreparingProcessor, pl.LazyFrame]:
    """Return rows as the build of the data set would encode them, with the columns to keep beside them."""
    inputs = [column for column in origin.columns.values() if column["type"] != "meta"]  # no model reads a group
    settings = {**origin.settings, "dataset_id": origin.dataset_id, "data_root": str(origin.folder.parent)}
    settings["feature_cols"] = [{key: column[key] for key in column if key != "pretrained_emb"} for column in inputs]
    settings |= {"label_col": settings["label_col"] if labels else [], "group_id": None, "task": task}
    processor = PreparingProcessor(**settings)
    with explain_errors(processor, origin.dataset_id):
        rows = processor.preprocess(processor.read_files(files, origin.settings.get("sep")))
        schema = rows.collect_schema().names()
    if not keep:
        return processor, rows
    header = _schema_of(files[0], origin)
    if (duplicate := find_duplicate(keep)) is not None:
        raise UsageError(f"--keep names {duplicate!r} twice")
    for name in keep:
        if name == "prediction" or name.endswith("_prediction"):
            raise UsageError(f"--keep cannot copy {name!r}: predictions have such names")
        if name not in header:
            raise unknown(f"column of --keep, in {files[0]}", name, header)
    kept = processor.scan_unparsed(keep).rename({name: _kept(name) for name in keep})
    return processor, pl.concat([rows.select(schema), kept], how="horizontal")


def _kept(name: str) -> str:
    """Return the name under which a kept column travels beside the encoded one of the same name."""
    return f"{name}{KEPT}"


@torch.no_grad()
def _predict(model: BaseModel, columns: dict[str, torch.Tensor], batch_size: int) -> dict[str, np.ndarray]:
    """Return name -> (n,) float64 of each prediction of the model."""
    rows = len(next(iter(columns.values())))
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, rows, batch_size):
        returned = model.forward({name: column[start : start + batch_size] for name, column in columns.items()})
        for name, value in returned.items():
            if name.endswith("pred"):
                parts.setdefault(name, []).append(value.double().flatten().cpu().numpy())
    names = {name: "prediction" if name == "y_pred" else f"{name.removesuffix('_pred')}_prediction" for name in parts}
    return {names[name]: np.concatenate(part) for name, part in parts.items()}


class _Writer:
    """Writer of chunks to a parquet or csv file."""

    def __init__(self, path: Path, is_csv: bool) -> None:
        self.path, self.is_csv = path, is_csv
        self._parquet: pq.ParquetWriter | None = None
        self._has_rows = False

    def write(self, chunk: pl.DataFrame) -> None:
        """Append rows."""
        if self.is_csv:
            with open(self.path, "ab") as file:
                chunk.write_csv(file, include_header=not self._has_rows)
        else:
            table: pa.Table = chunk.to_arrow()
            self._parquet = self._parquet or pq.ParquetWriter(self.path, table.schema)
            self._parquet.write_table(table)
        self._has_rows = True

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._parquet is not None:
            self._parquet.close()


def _describe_metrics(scored: pl.DataFrame, labels: list[str], params: dict[str, Any]) -> str:
    """Return the metrics of the config that need no groups, for each label."""
    wanted = [metric for metric in params.get("metrics", ["AUC", "logloss"]) if metric in PLAIN_METRICS]
    lines = []
    for label in labels:
        name = "prediction" if len(labels) == 1 else f"{label}_prediction"
        y_true, y_pred = (torch.from_numpy(scored[key].cast(pl.Float64).to_numpy().copy()) for key in (label, name))
        if len(y_true.unique()) == 1 and "AUC" in wanted:
            lines.append(f"{label} is {y_true[0]:g} in every row: no metrics")
            continue
        values = evaluate_metrics(y_true, y_pred, wanted, None)
        lines.append(f"{label}: " + ", ".join(f"{metric} {value:.6f}" for metric, value in values.items()))
    return "\n".join(lines)
