"""What an export has written, in lines that paste well."""

from fuxictr_me.formatting import format_bytes


def summary(manifest, folder):
    """Files and sizes, inputs and outputs, what was compared, and how to predict.

    Args:
        manifest (dict): of the export.
        folder (Path): that was written.

    Returns:
        str
    """
    lines = [f"{folder}: {manifest['model']}, run {manifest['expid']} on {manifest['dataset_id']}"]
    for path in sorted(folder.iterdir()):
        lines.append(f"  {path.name:<18} {format_bytes(path.stat().st_size):>12}")
    for kind in ("inputs", "outputs"):
        lines.append(f"{kind}: {', '.join(map(_signature, manifest[kind]))}")
    for rows, difference in manifest["largest_difference"].items():
        lines.append(f"batch of {rows:,}: largest difference from the run's own predictions {difference:.1e}")
    lines += manifest["notes"]
    if (folder / "predict.py").exists():
        lines.append(f"python {folder}/predict.py csv < rows.csv, or without csv < rows.json (a JSON object a line)")
    return "\n".join(lines)


def _signature(of):
    return f"{of['name']} {of['dtype']} ({', '.join(map(str, of['shape']))})"
