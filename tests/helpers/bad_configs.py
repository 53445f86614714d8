"""A config folder to damage, and the one line that a damaged config must end in."""

from pathlib import Path

import yaml

from fuxictr_me.commands.main import main

ROWS = "user,item,history,price,click\n" + "\n".join(
    f"u{n % 5},i{n % 7},i1^i{n % 3},{n / 7:.3f},{n % 2}" for n in range(40)
)
DATASET = {
    "data_root": "data/",
    "data_format": "h5",
    "train_data": "rows.csv",
    "valid_data": "rows.csv",
    "test_data": "rows.csv",
    "min_categr_count": 1,
    "feature_cols": [
        {"name": "user", "active": True, "dtype": "str", "type": "categorical"},
        {"name": "item", "active": True, "dtype": "str", "type": "categorical"},
        {"name": "price", "active": True, "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"},
        {"name": "history", "active": True, "dtype": "str", "type": "sequence", "splitter": "^", "max_len": 2},
    ],
    "label_col": {"name": "click", "dtype": "float"},
}
MODEL = {
    "model": "DCNv2_ME",
    "dataset_id": "shop",
    "model_root": "checkpoints/",
    "metrics": ["AUC", "logloss"],
    "stacked_dnn_hidden_units": [4],
    "num_cross_layers": 1,
    "embedding_dim": 2,
    "num_sets": 2,
    "batch_size": 20,
    "epochs": 1,
    "verbose": 0,
    "seed": 1,
}


def write(where, key, value):
    """Write a config folder that is right but for one setting."""
    columns = [dict(column) for column in DATASET["feature_cols"]]
    dataset, model = {**DATASET, "feature_cols": columns}, dict(MODEL)
    place = {"dataset": dataset, "model": model} | {column["name"]: column for column in columns}
    place[where][key] = value
    Path("config").mkdir(exist_ok=True)
    Path("config/dataset_config.yaml").write_text(yaml.safe_dump({"shop": dataset}))
    Path("config/model_config.yaml").write_text(yaml.safe_dump({"x": model}))


def error_of(arguments, capsys):
    """Run a command; its code and its one line of error, None where it has none."""
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse
        code = stop.code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if "error: " in line]
    assert "Traceback" not in err and len(lines) <= 1
    return code, lines[0] if lines else None
