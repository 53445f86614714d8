"""mkdocs: READMEs and results beside docs/ are pages of the site, and links to them hold here as in the repository."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
BESIDE = ("benchmarks/RESULTS.md", "benchmarks/scale.md", "benchmarks/*.png", "CONTRIBUTING.md")
BESIDE += ("model_zoo/**/README.md", "dataset_configs/**/README.md")


def on_files(files, config):
    """Add what lies beside docs/, under its path in the repository."""
    for pattern in BESIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    """In the site docs/ is the root: links out of it lose their ``../``, links into it their ``docs/``."""
    folder = Path(page.file.abs_src_path).parent
    if folder == ROOT / "docs":
        return markdown.replace("](../", "](")
    if ROOT / "docs" not in folder.parents:
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    return markdown
