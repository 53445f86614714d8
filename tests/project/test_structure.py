"""The structure of the package: layers import only from lower layers, files and functions stay short."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.paths import ROOT

PACKAGE = ROOT / "fuxictr_me"
# From the bottom to the top: a module imports only from its own layer and from layers before it. CONTRIBUTING.md
# says what each is for.
LAYERS = (
    *(
        "errors",
        "formatting",
        "io",
        "compat",
        "collapse",
        "config",
        "nn",
        "tables",
        "representations",
        "training",
        "models",
        "wrap",
        "data",
        "zoo",
    ),
    *("estimates", "distributed", "runs", "bars", "study", "reports", "serving", "quickstart", "starter", "commands"),
)
# Import paths of the time before the layers, which configs and scripts of users still name.
OLD_PATHS = {"any_model", "callbacks", "cli", "embedding", "experiment", "host", "interactions"}
ENTRANCES = {"", "__main__"}
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION = 300, 60


def name_module(path: Path) -> str:
    """Return the dotted name of a module; a package has the name of its folder."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@functools.cache
def tree_of(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(MODULES[module].read_text())


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports_of(name: str) -> set[str]:
    """Return the modules of the package that a module imports, at its top or inside a function, but not for types."""
    found = set()
    for node in run_statements(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            found |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return found - {"fuxictr_me"}


def run_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those under ``if TYPE_CHECKING``, which never run."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING":
            continue
        yield from run_statements(node)


def test_every_module_belongs_to_a_layer():
    assert {layer_of(name) for name in MODULES} == {*LAYERS, *OLD_PATHS, *ENTRANCES}


def test_a_module_imports_only_from_lower_layers():
    rank = {layer: position for position, layer in enumerate(LAYERS)}
    upward = [
        f"{name} -> {imported}"
        for name in MODULES
        if layer_of(name) in rank
        for imported in imports_of(name)
        if rank.get(layer_of(imported), len(LAYERS)) > rank[layer_of(name)]
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_import_each_other_in_a_circle():
    graphlib.TopologicalSorter({name: imports_of(name) - {name} for name in MODULES}).prepare()  # raises CycleError


@pytest.mark.parametrize("name", list(MODULES))
def test_files_and_functions_stay_short(name):
    lines = len(MODULES[name].read_text().splitlines())
    assert lines <= MOST_LINES_OF_A_FILE
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(tree_of(name))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION
    ]
    assert not long, long


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.stem)
def test_tests_share_code_only_through_helpers(path):
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    modules = {node.module for node in imports if node.module}
    assert not [module for module in modules if module.split(".")[0].startswith(("test_", "conftest"))]


def test_folders_of_tests_are_layers():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - {"helpers", "project"} <= set(LAYERS)


@pytest.mark.parametrize("name", sorted(OLD_PATHS))
def test_old_import_paths_lead_to_the_same_objects(name):
    tree = tree_of(f"fuxictr_me.{name}")
    statements = {type(node).__name__ for node in tree.body}
    assert statements == {"Expr", "ImportFrom", "Assign"}, "an old path imports and does nothing else"


def test_type_checkers_read_the_annotations():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.stem)
def test_no_name_of_a_test_file_is_defined_twice(path):
    """A second function of the same name would silently replace the first (ruff's F811 is off for fixtures)."""
    names = [
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]
    assert len(names) == len(set(names))
