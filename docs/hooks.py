"""Hooks of mkdocs: make pages of READMEs and results outside docs/, with links that also work in the repository."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("benchmarks/RESULTS.md", "benchmarks/scale.md", "benchmarks/*.png", "CONTRIBUTING.md")
OUTSIDE += ("model_zoo/**/README.md", "dataset_configs/**/README.md", "examples/README.md", "examples/*.py")
OUTSIDE += ("examples/*.ipynb", "examples/config/*.yaml", "model_zoo/schema/*.json")


def on_files(files, config):
    """Add the files of ``OUTSIDE`` to the site, under their paths in the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Adapt links to the site, whose root is docs/: drop ``../`` of links out of it, and ``docs/`` of links into it."""
    folder = Path(page.file.abs_src_path).parent
    if folder == ROOT / "docs":
        return markdown.replace("](../", "](")
    if ROOT / "docs" not in folder.parents:
        return re.sub(r"\]\(((?:\.\./)*)docs/", r"](\1", markdown)
    return markdown
