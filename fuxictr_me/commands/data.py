"""``fuxictr-me data``: build, look at, verify, convert and generate data sets."""

import hashlib
import json
import shutil
from pathlib import Path

from tqdm import tqdm

from fuxictr_me.errors import UsageError, missing, positive_int, unknown
from fuxictr_me.formatting import format_bytes, pluralize
from fuxictr_me.io.resources import bundled

PARTS = {"train": 0, "valid": 1, "test": 2}
VERIFY_ROWS = 1 << 18  # at a time
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}


def build(dataset_id, config=None, out=None, raw=None):
    """Build an H5 data set from a ``dataset_config.yaml``.

    Args:
        dataset_id (str): an entry of the file.
        config (str): the file, or a folder that holds it; the bundled entry that has ``dataset_id`` if None.
        out (str): ``data_root``: the set goes to ``<out>/<dataset_id>/``; None takes ``data_root`` of the config.
        raw (str): folder of the csv or parquet files; None takes the paths of the config.

    Returns:
        str: what ``info`` says of it.
    """
    from fuxictr_me.config import check_dataset, find_dataset
    from fuxictr_me.config.columns import check_columns, names_of
    from fuxictr_me.config.splits import SPLITS
    from fuxictr_me.data.build_h5 import build_h5

    entry, folder = find_dataset(dataset_id, config)
    out = entry.get("data_root", "./data/") if out is None else str(out)
    params = {**entry, "dataset_id": dataset_id, "data_root": out, "data_format": "h5"}
    columns = check_columns(entry.get("feature_cols"), entry.get("label_col"))
    if raw is not None:
        params |= {
            f"{s}_data": str(Path(raw) / Path(str(entry[f"{s}_data"])).name) for s in SPLITS if entry.get(f"{s}_data")
        }
    group = [name for column in columns if column["type"] == "meta" for name in names_of(column)]
    params["group_id"] = entry.get("group_id") or (group[0] if group else None)
    check_dataset(params, folder)
    build_h5(params)
    return info(Path(out) / dataset_id)


def info(folder):
    """What a built data set holds: rows, fields, vocabularies, sizes, and what it was made from.

    Returns:
        str: a table that pastes well.

    Raises:
        UsageError: no data set there.
    """
    from fuxictr_me.data.column_layout import Layout
    from fuxictr_me.data.manifest import read_manifest

    folder = Path(folder)
    feature_map, manifest = read_feature_map(folder), read_manifest(folder)
    layout = Layout.of(feature_map)
    lines = [f"{folder}: {len(feature_map.features)} fields, {layout.row_bytes} bytes a row as H5"]
    if manifest is None:
        lines.append("no manifest: not built by fuxictr-me; damage to its rows would not be noticed")
    else:
        made = manifest["made_from"]
        how = f"FuxiCTR's {made['fuxictr']}" if "fuxictr" in made else ", ".join(made)
        lines.append(f"made by {manifest['made_by']} ({how})")
        lines.append(_protection(manifest))
        for split, entry in manifest["splits"].items():
            there = [folder / name for name in entry["files"] if (folder / name).is_file()]
            size = sum(path.stat().st_size for path in there)
            rows = f"{entry['rows']:>12,} rows, " if "rows" in entry else ""  # parquet keeps no count in the manifest
            lines.append(f"{split:<6} {rows}{pluralize(len(entry['files']), 'file')}, {format_bytes(size)}")
    lines.append(f"{'field':<24} {'type':<12} {'vocabulary':>10}  stored as")
    for name, place in layout.places.items():
        spec = feature_map.features.get(name, {"type": "label"})
        width = f" x {place.stop - place.start}" if place.is_vector else ""
        size = f"{spec['vocab_size']:,}" if "vocab_size" in spec else ""
        lines.append(f"{name:<24} {spec['type']:<12} {size:>10}  {place.matrix}{width}")
    return "\n".join(lines)


def _protection(manifest):
    """In words, what is noticed when the files are read."""
    entries = [entry for split in manifest["splits"].values() for entry in split["files"].values()]
    if all("trailer" in entry for entry in entries):
        return "protected: each block of rows is compared with its checksum when it is read"
    names = [name for split in manifest["splits"].values() for name in split["files"]]
    if all(entry.get("checksums") for entry in entries) or set(names) <= manifest.get("file_digests", {}).keys():
        return "files are checked as a whole at every start; `fuxictr-me data convert OLD NEW` makes that faster"
    return "not protected: no checksums of rows are kept"


def verify(folder):
    """Check a built data set against its manifest and feature map; or published csv files against their md5.

    Args:
        folder (str): of a built set, or of the csv files of a bundled data set, by its published name.

    Returns:
        (list of str, str): the names of what is wrong; one line per file.

    Raises:
        UsageError: neither of these.
    """
    folder = Path(folder)
    if (folder / "feature_map.json").exists() or (folder / "manifest.json").exists():
        return _verify_built(folder)
    published = {}
    for file in sorted(bundled("dataset_configs").glob("*/files.json")):
        content = json.loads(file.read_text())
        published[content["folder"]] = content
    if folder.name not in published:
        if not folder.is_dir():
            raise missing("folder", folder)
        kind = "data set (a built one has a feature_map.json; published ones go by their folder's name)"
        raise unknown(kind, folder.name, published)
    return _verify_published(folder, published[folder.name])


def _verify_built(folder):
    from fuxictr_me.data.manifest import read_manifest
    from fuxictr_me.data.manifest_checks import check_listed_file

    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} has no manifest to check it against")
    digests = manifest.get("file_digests", {})
    is_parquet = not all("rows" in entry for entry in manifest["splits"].values())
    if is_parquet and not all(name in digests for split in manifest["splits"].values() for name in split["files"]):
        raise UsageError(f"{folder} was built as parquet by an earlier version, which kept no checksums of it")
    found = {name: _problem_of(check_listed_file, folder / name, manifest, name) for name in digests}
    if found.get("feature_map.json") is None and (problem := _problem_of(read_feature_map, folder)):
        found["feature_map.json"] = problem
    for split, entry in manifest["splits"].items():
        for name, stored in entry["files"].items() if not is_parquet else ():
            found[name] = _problem_of(_verify_file, folder / name, manifest, stored)
        if not any(found.values()) and (problem := _problem_of(_verify_split, folder, split, manifest)):
            found[split] = problem
    lines = [f"{name}: {problem or 'as it was built'}" for name, problem in found.items()]
    return [name for name, problem in found.items() if problem], "\n".join(lines)


def _problem_of(check, *arguments):
    """What ``check`` says is wrong, in one line; None if nothing is."""
    try:
        check(*arguments)
    except UsageError as error:
        return str(error)
    return None


def _verify_file(path, manifest, stored):
    """Read all rows of a file, and compare it with its own checksums and with the manifest's."""
    from fuxictr_me.data.h5_file import H5File, wrong_matrices
    from fuxictr_me.data.manifest_checks import expected_file

    expected = expected_file(manifest, stored)
    file = H5File(path, expected)  # which compares a file without checksums of its blocks at once
    if file.is_protected and (wrong := wrong_matrices(file, expected)):
        raise UsageError(f"{path} differs from what was built: {', '.join(wrong)}")


def _verify_split(folder, split, manifest):
    """Check that the rows of a split fit the feature map, and that no file of rows lies beside those of the build."""
    from fuxictr_me.data.parquet_loader import read_columns
    from fuxictr_me.data.split_files import Rows

    name = next(iter(manifest["splits"][split]["files"]))
    path = folder / (split if "/" in name else name)
    if name.endswith(".parquet"):
        read_columns(read_feature_map(folder), path, split)
        return
    rows = Rows(read_feature_map(folder), path, split)
    for start in range(0, len(rows), VERIFY_ROWS):
        rows.read_ranges(rows.pieces(start, min(start + VERIFY_ROWS, len(rows))))


def _verify_published(folder, content):
    lines, wrong = [], []
    for name, expected in content["files"].items():
        path = folder / name
        if not path.exists():
            problem = "is not there"
        elif expected["md5"] is None:
            problem = None
        else:
            found = md5(path)
            problem = None if found == expected["md5"] else f"has md5 {found}, published is {expected['md5']}"
        wrong += [name] if problem else []
        lines.append(f"{path}: {problem or ('as published' if expected['md5'] else 'there; no md5 is published')}")
    if wrong:
        lines.append(f"published at {content['source']}")
    return wrong, "\n".join(lines)


def convert(source, target):
    """Write the ids of a built data set (FuxiCTR's H5 of 1.x to 2.1, npz, parquet) as our H5.

    Args:
        source (str): its folder, with ``feature_map.json``.
        target (str): folder to write, which must not be there.

    Returns:
        str: what ``info`` says of it.

    Raises:
        UsageError: no such set, or ``target`` is there.
    """
    from fuxictr_me.data.convert_ids import convert_set

    convert_set(Path(source), Path(target))
    return info(target)


def generate(out, rows=1_000_000, **settings):
    """Write a Criteo-shaped data set with planted interactions: 80 % of the rows train, 10 % valid, 10 % test.

    Args:
        out (str): folder to write, which must not be there.
        rows (int): of all splits together.
        **settings: of ``SyntheticClicks``.

    Returns:
        str: what ``info`` says of it, and the best AUC that a model can reach.
    """
    from fuxictr_me.config.training_options import SEED
    from fuxictr_me.data.convert_ids import write_set
    from fuxictr_me.data.generate import SyntheticClicks

    positive_int("rows", rows)
    SEED.check("seed", settings.get("seed", 0))
    clicks, out = SyntheticClicks(**settings), Path(out)
    check_free_space(out, 2 * rows * len(clicks.field_names))  # of an id, two bytes or more
    counts = {split: max(1, int(rows * share)) for split, share in SHARES.items()}
    with tqdm(total=sum(counts.values()), unit="row", unit_scale=True, disable=None, desc=out.name) as bar:

        def chunks(split):
            for chunk in clicks.chunks(counts[split], part=PARTS[split]):
                yield chunk
                bar.update(len(chunk["label"]))

        write_set(out, clicks.feature_map(out.name), counts, chunks, {"generated": {"rows": rows, **settings}})
    return f"{info(out)}\nbest AUC that a model can reach: {clicks.bayes_auc():.4f}"


def check_free_space(folder: Path, needed: int) -> None:
    """Refuse to write more bytes than the disk has free.

    Args:
        folder: that is to be written; it need not be there yet.
        needed: bytes, at least.

    Raises:
        UsageError: with what is needed and what there is.
    """
    place = folder.absolute()
    while not place.is_dir():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise UsageError(f"{folder} needs at least {format_bytes(needed)} on disk, and {format_bytes(free)} are free")


def read_feature_map(folder):
    """The feature map of a built set, by the id that it says it has.

    Raises:
        UsageError: no such set.
    """
    from fuxictr_me.data.feature_maps import load

    return load(Path(folder))


def md5(path):
    """md5 of a file, with a bar where the output is a terminal."""
    digest, path = hashlib.md5(usedforsecurity=False), Path(path)
    bar = tqdm(total=path.stat().st_size, unit="B", unit_scale=True, disable=None, desc=path.name)
    with open(path, "rb") as file, bar:
        while block := file.read(1 << 22):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
