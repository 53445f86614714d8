"""FuxiCTR's ``feature_vocab.json``: {field: {token: id}}."""

from collections.abc import Iterable
from json.encoder import encode_basestring_ascii
from pathlib import Path


def write_vocabularies(path: str | Path, vocabularies: Iterable[tuple[str, dict]]) -> None:
    """Write vocabularies, sorted by id, as ``json.dumps(..., indent=4)`` would, but several times as fast.

    Args:
        path: file to write.
        vocabularies: (field, token -> id); tokens are text or numbers, also of numpy.
    """
    with open(path, "w") as file:
        file.write("{")
        for i, (field, vocabulary) in enumerate(vocabularies):
            tokens = sorted(vocabulary.items(), key=lambda item: item[1])
            lines = ",\n".join(f"        {_as_json_key(token)}: {number}" for token, number in tokens)
            file.write(f"{',' if i else ''}\n    {encode_basestring_ascii(field)}: {{\n{lines}\n    }}")
        file.write("\n}")


def _as_json_key(token: str | int | float) -> str:
    if isinstance(token, str):
        return encode_basestring_ascii(token)
    return f'"{float.__repr__(token) if isinstance(token, float) else int(token)}"'
