"""The three YAML files of a starter folder, with a comment for each guess."""

import json

from fuxictr_me.config.names import check_field_name
from fuxictr_me.errors import UsageError
from fuxictr_me.starter.guess_columns import LEFT_OUT, SEQUENCE, ColumnGuess

FEWEST_PER_BATCH, MOST_PER_BATCH = 128, 8192
RARE = 2


def write_dataset_config(dataset_id: str, folder: str, guesses: list[ColumnGuess], label: str, how: str) -> str:
    """Return ``dataset_config.yaml``.

    Args:
        dataset_id: name of the data set.
        folder: that holds the splits, as seen from the folder that holds the config folder.
        guesses: of all columns.
        label: name of the label.
        how: how the rows were divided.
    """
    lines = [
        f"{dataset_id}:",
        "    data_root: ./data/  # the data set is built in this folder, once",
        "    data_format: h5",
        f"    {_comment(f'split {how}')}",
        *(f"    {split}_data: {_quote(f'{folder}/{split}.parquet')}" for split in ("train", "valid", "test")),
        f"    min_categr_count: {RARE}  # values that occur less often in training share one id",
        "    feature_cols:",
    ]
    used = [guess for guess in guesses if guess.kind != LEFT_OUT]
    names = name_fields(used)
    for guess in sorted(used, key=lambda guess: guess.kind == SEQUENCE):  # a sequence comes after the table it shares
        settings = {"name": names[guess.name], "type": guess.kind, **guess.settings}
        if names[guess.name] != guess.name:
            settings["preprocess"] = f"copy_from({guess.name})"
        if "share_embedding" in settings:
            settings["share_embedding"] = names[str(settings["share_embedding"])]
        comment = f"{guess.reason}; about {guess.distinct:,} values, {guess.missing:.1%} missing"
        lines.append(f"        - {_inline(settings)}  {_comment(comment)}")
    left_out = [guess for guess in guesses if guess.kind == LEFT_OUT]
    lines += [f"        {_comment(f'left out: {guess.name} ({guess.reason})')}" for guess in left_out]
    lines.append(f"    label_col: {_inline({'name': label, 'dtype': 'float'})}")
    return "\n".join(lines) + "\n"


def write_model_config(dataset_id: str, train_rows: int) -> str:
    """Return ``model_config.yaml`` with SE 1x, SE 4x and ME 4x of DCNv2, sized for the number of training rows."""
    batch = FEWEST_PER_BATCH
    while batch < MOST_PER_BATCH and batch * 400 < train_rows:
        batch *= 2
    hidden = 64 if train_rows < 1_000_000 else 256
    return f"""\
Base:
    model_root: ./checkpoints/
    dataset_id: {dataset_id}
    model: DCNv2_ME
    task: binary_classification
    loss: binary_crossentropy
    metrics: [AUC, logloss]
    monitor: AUC
    monitor_mode: max
    optimizer: adam
    learning_rate: 1.e-3
    embedding_regularizer: 1.e-5  # the study tries others: it decides more than any other setting here
    batch_size: {batch}  # for {train_rows:,} training rows
    epochs: 20
    early_stop_patience: 2
    seed: 2024
    num_cross_layers: 3
    stacked_dnn_hidden_units: [{hidden}, {hidden}]
    callbacks: [InformationAbundance]

SE_1x: {{num_sets: 1, embedding_dim: 8}}
SE_4x: {{num_sets: 1, embedding_dim: 32}}
ME_4x: {{num_sets: 4, embedding_dim: 8}}
"""


def write_study(dataset_id: str, config: str) -> str:
    """Return ``study.yaml``, which compares single embedding, multi-embedding and an ensemble at one and four times."""
    return f"""\
# Does multi-embedding help on this data?  fuxictr-me study {config}/study.yaml
name: {dataset_id}
dataset_id: {dataset_id}
config: .
models:
    DCNv2_ME: {{expid: ME_4x}}
kinds: [SE, ME, ensemble]  # the ensemble is the control: 4 single models of the same total size
scales: [1, 4]
seeds: 5  # fewer cannot show that a difference is more than noise
grid: {{embedding_regularizer: [1.e-6, 1.e-5, 1.e-4]}}  # tried for each kind and size
"""


def name_fields(guesses: list[ColumnGuess]) -> dict[str, str]:
    """Return column -> name of its field: another one if PyTorch cannot give the column's name to a layer."""
    names: dict[str, str] = {}
    taken = {guess.name for guess in guesses}
    for guess in guesses:
        name = guess.name
        while not _is_field_name(name) or (name != guess.name and name in taken):
            name = name.replace(".", "_") + "_field"
        names[guess.name] = name
        taken.add(name)
    return names


def _is_field_name(name: str) -> bool:
    try:
        check_field_name(name)
    except UsageError:
        return False
    return True


def _comment(text: str) -> str:
    """Return a comment of YAML, which must stay on one line whatever a column or its type is called."""
    return f"# {' '.join(text.split())}"


def _inline(settings: dict[str, object]) -> str:
    """Return a mapping in one line of YAML."""
    return "{" + ", ".join(f"{key}: {_quote(value)}" for key, value in settings.items()) + "}"


def _quote(value: object) -> str:
    """Return a value as YAML reads it back: text in double quotes unless it is plain letters, digits and _ . / ( )."""
    if not isinstance(value, str):
        return json.dumps(value)
    plain = value.replace("_", "").replace("/", "").replace(".", "").replace("()", "")
    is_word = (
        plain.isascii()
        and plain.isalpha()
        and value.lower() not in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    )
    return value if is_word else json.dumps(value, ensure_ascii=False)
