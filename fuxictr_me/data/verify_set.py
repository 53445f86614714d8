"""Check a built data set against its manifest, or downloaded csv files against their published MD5."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fuxictr_me.data import feature_maps
from fuxictr_me.data.h5.h5_file import H5File, wrong_matrices
from fuxictr_me.data.h5.split_rows import Rows
from fuxictr_me.data.loaders.parquet_loader import read_columns
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.data.manifest_checks import check_listed_file, expected_file
from fuxictr_me.errors import UsageError, missing, unknown
from fuxictr_me.io.checksums import hash_file
from fuxictr_me.io.resources import find_bundled_folder

CHUNK_ROWS = 1 << 18


def verify_set(folder: Path) -> tuple[list[str], str]:
    """Check a built data set against its manifest and feature map; or published csv files against their MD5.

    Args:
        folder: folder of a built set, or of the csv files of a bundled data set, with its published name.

    Returns:
        The names of files that are wrong, and a text with one line per file.

    Raises:
        UsageError: ``folder`` is neither of these.
    """
    if (folder / "feature_map.json").exists() or (folder / "manifest.json").exists():
        return _verify_built(folder)
    contents = (
        json.loads(file.read_text()) for file in sorted(find_bundled_folder("dataset_configs").glob("*/files.json"))
    )
    published = {content["folder"]: content for content in contents}
    if folder.name not in published:
        if not folder.is_dir():
            raise missing("folder", folder)
        kind = "data set (a built one has a feature_map.json; published ones go by their folder's name)"
        raise unknown(kind, folder.name, published)
    return _verify_published(folder, published[folder.name])


def _verify_built(folder: Path) -> tuple[list[str], str]:
    manifest = read_manifest(folder)
    if manifest is None:
        raise UsageError(f"{folder} has no manifest to check it against")
    digests = manifest.get("file_digests", {})
    is_parquet = not all("rows" in entry for entry in manifest["splits"].values())
    if is_parquet and not all(name in digests for split in manifest["splits"].values() for name in split["files"]):
        raise UsageError(f"{folder} was built as parquet by an earlier version, which kept no checksums of it")
    problems = {name: _problem_of(check_listed_file, folder / name, manifest, name) for name in digests}
    if problems.get("feature_map.json") is None and (problem := _problem_of(feature_maps.load, folder)):
        problems["feature_map.json"] = problem
    for split, entry in manifest["splits"].items():
        for name, stored in entry["files"].items() if not is_parquet else ():
            problems[name] = _problem_of(_verify_file, folder / name, manifest, stored)
        if not any(problems.values()) and (problem := _problem_of(_verify_split, folder, split, manifest)):
            problems[split] = problem
    lines = [f"{name}: {problem or 'as it was built'}" for name, problem in problems.items()]
    return [name for name, problem in problems.items() if problem], "\n".join(lines)


def _problem_of(check: Callable, *arguments: Any) -> str | None:
    """Return what ``check`` says is wrong, in one line; None if nothing is."""
    try:
        check(*arguments)
    except UsageError as error:
        return str(error)
    return None


def _verify_file(path: Path, manifest: dict[str, Any], stored: dict[str, Any]) -> None:
    """Read all rows of a file, and compare it with its own checksums and with the manifest's."""
    expected = expected_file(manifest, stored)
    file = H5File(path, expected)  # a file without checksums of its blocks is compared here
    if file.is_protected and (wrong := wrong_matrices(file, expected)):
        raise UsageError(f"{path} differs from what was built: {', '.join(wrong)}")


def _verify_split(folder: Path, split: str, manifest: dict[str, Any]) -> None:
    """Check that the rows of a split fit the feature map, and that the folder has no file of rows too many."""
    name = next(iter(manifest["splits"][split]["files"]))
    path = folder / (split if "/" in name else name)
    if name.endswith(".parquet"):
        read_columns(feature_maps.load(folder), path, split)
        return
    rows = Rows(feature_maps.load(folder), path, split)
    for start in range(0, len(rows), CHUNK_ROWS):
        rows.read_ranges(rows.pieces(start, min(start + CHUNK_ROWS, len(rows))))


def _verify_published(folder: Path, content: dict[str, Any]) -> tuple[list[str], str]:
    lines, wrong = [], []
    for name, expected in content["files"].items():
        path, problem = folder / name, None
        if not path.exists():
            problem = "is not there"
        elif expected["md5"] is not None and (found := hash_file(path, "md5", show_progress=True)) != expected["md5"]:
            problem = f"has md5 {found}, published is {expected['md5']}"
        wrong += [name] if problem else []
        lines.append(f"{path}: {problem or ('as published' if expected['md5'] else 'there; no md5 is published')}")
    if wrong:
        lines.append(f"published at {content['source']}")
    return wrong, "\n".join(lines)
