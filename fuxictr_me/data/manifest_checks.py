"""Checks that a manifest and the files that it lists were written together."""

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.errors import UsageError
from fuxictr_me.io.checksums import hash_file, hash_json

NAME = "manifest.json"
FORMATS = (1, 2)  # 1 has no digests
LISTED = ("feature_map.json", "feature_vocab.json", "feature_processor.pkl", "pretrained_*")
ADVICE = "restore it, or delete the data set and build it again"


@dataclass(frozen=True)
class ExpectedFile:
    """A manifest's entry of one file of rows.

    Attributes:
        rows: number of rows; None if unknown.
        trailer: digest of the checksums at the end of the file; None for a file without them.
        checksums: matrix -> BLAKE2b of all its bytes.
        names_by_trailer: digest of the checksums -> name, of all files of the set, to name a file that was swapped in.
    """

    rows: int | None = None
    trailer: str | None = None
    checksums: dict[str, str] = field(default_factory=dict)
    names_by_trailer: dict[str, str] = field(default_factory=dict)


def digest_of_content(content: dict) -> str:
    """Return BLAKE2b of a manifest's content without its own digest, independent of the layout of the JSON."""
    rest = {key: value for key, value in content.items() if key != "content_digest"}
    return hash_json(rest, "blake2b")


def digests_of_files(folder: Path, splits: dict[str, Any]) -> dict[str, str]:
    """Return name -> BLAKE2b of the files without checksums: feature map, vocabularies, pretrained vectors, parquet."""
    names = [file.name for pattern in LISTED for file in sorted(Path(folder).glob(pattern)) if file.is_file()]
    names += [name for split in splits.values() for name in split["files"] if name.endswith(".parquet")]
    return {name: _digest_of_file(Path(folder) / name) for name in names}


def parse_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest and check that it is complete.

    Raises:
        UsageError: it is not JSON, has another format or values of wrong types, or has changed since it was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a valid manifest: {error}; {ADVICE}") from error
    if problem := _problem(content):
        raise UsageError(f"{path} is not a valid manifest: {problem}; {ADVICE}")
    return content


def find_manifest(file: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the folder and the manifest of the data set that a file of rows belongs to, or None without a manifest."""
    folders = [file.parent, *([file.parent.parent] if file.parent.name in SPLITS else [])]
    for folder in folders:
        if (folder / NAME).exists():
            return folder, parse_manifest(folder / NAME)
    return None


def expected_files(files: list[Path], are_all: bool) -> list[ExpectedFile]:
    """Return the manifest's entry of each file of a split, or empty entries if the data set has no manifest.

    Args:
        files: of one split.
        are_all: whether they are meant to be all files of the split, rather than named one by one.

    Raises:
        UsageError: the manifest does not list a file, or lists more files of the split; or the feature map is not that
            of this data set.
    """
    if (located := find_manifest(files[0])) is None:
        return [ExpectedFile() for _ in files]
    folder, manifest = located
    names = [file.relative_to(folder).as_posix() for file in files]
    listed: dict[str, dict] = {}
    for split in manifest["splits"].values():
        if not listed and not split["files"].keys().isdisjoint(names):
            listed = split["files"]
    if foreign := [name for name in names if name not in listed]:
        raise UsageError(f"{folder / foreign[0]} is not of this data set: {folder / NAME} does not list it")
    if are_all and (absent := [name for name in listed if name not in names]):
        raise UsageError(f"{folder / absent[0]} is missing: {folder / NAME} lists it; {ADVICE}")
    check_listed_file(folder / "feature_map.json", manifest)
    return [expected_file(manifest, listed[name]) for name in names]


def check_parquet_rows(files: list[Path], are_all: bool) -> None:
    """Refuse parquet files that are not those of the build, if the data set has a manifest with their digests.

    Args:
        files: of one split.
        are_all: as in ``expected_files``.

    Raises:
        UsageError: a file has changed; or there are too many or too few files, if they should be all of the split.
    """
    if (located := find_manifest(files[0])) is None:
        return
    folder, manifest = located
    names = {name for split in manifest["splits"].values() for name in split["files"]}
    if are_all and names & manifest.get("file_digests", {}).keys():
        expected_files(files, are_all)
    for file in files:
        check_listed_file(file, manifest, file.relative_to(folder).as_posix())


def expected_file(manifest: dict[str, Any], entry: dict[str, Any]) -> ExpectedFile:
    """Return the manifest's entry of a file as an object."""
    files = [item for split in manifest["splits"].values() for item in split["files"].items()]
    names = {other["trailer"]: name for name, other in files if "trailer" in other}
    return ExpectedFile(entry.get("rows"), entry.get("trailer"), entry.get("checksums", {}), names)


def check_listed_file(path: Path, manifest: dict[str, Any] | None = None, name: str | None = None) -> None:
    """Refuse a file (feature map, vocabularies, parquet, ...) that is not the one whose digest the manifest lists.

    Args:
        path: the file.
        manifest: of its folder; None reads it, if there is one.
        name: of the file in the manifest; None for a file beside the manifest.

    Raises:
        UsageError: the file has changed or is missing, or the manifest is damaged.
    """
    if manifest is None:
        manifest = parse_manifest(path.parent / NAME) if (path.parent / NAME).exists() else {}
    expected = manifest.get("file_digests", {}).get(name or path.name)
    if expected is None:
        return
    if not path.is_file():
        raise UsageError(f"{path} is missing: {path.parent / NAME} lists it; {ADVICE}")
    if _digest_of_file(path) != expected:
        raise UsageError(f"{path} is damaged or of another build: {NAME} lists another content; {ADVICE}")


def _digest_of_file(path: Path) -> str:
    try:
        return hash_file(path, "blake2b")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _problem(content: Any) -> str | None:
    """Return, in words, what is wrong with a manifest's types or digest, or None."""
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}, not a mapping"
    if content.get("format") not in FORMATS or isinstance(content["format"], bool):
        return f"format {content.get('format')!r} is not known (known: 1, 2)"
    for key, kind in (("made_by", str), ("made_from", dict), ("splits", dict)):
        if not isinstance(content.get(key), kind):
            return f"{key} is {content.get(key)!r}" if key in content else f"{key} is missing"
    if content["format"] > 1 and content.get("content_digest") != digest_of_content(content):
        return "its content has changed since it was written"
    for name, split in content["splits"].items():
        if problem := _problem_of_split(split):
            return f"of the {name} split {problem}"
    return None if _is_text_by_name(content.get("file_digests", {})) else "file_digests are no texts by name"


def _problem_of_split(split: Any) -> str | None:
    if not isinstance(split, dict) or not isinstance(split.get("files"), dict):
        return "files are missing"
    if "rows" in split and not _is_count(split["rows"]):
        return f"rows is {split['rows']!r}"
    for name, entry in split["files"].items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts:
            return f"{name!r} is not a file of the folder"
        if not isinstance(entry, dict) or not _is_text_by_name(entry.get("checksums", {})):
            return f"the entry of {name!r} is {entry!r}"
        if ("rows" in entry and not _is_count(entry["rows"])) or not isinstance(entry.get("trailer", ""), str):
            return f"the entry of {name!r} is {entry!r}"
    counts = [entry.get("rows") for entry in split["files"].values()]
    if "rows" in split and None not in counts and sum(counts) != split["rows"]:
        return f"rows is {split['rows']}, but its files have {sum(counts)}"
    return None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text_by_name(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
