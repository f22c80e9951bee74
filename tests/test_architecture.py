"""The house: who may import whom, and what may not be written down at all."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("store_schema", "pipeline", "dcmnet")
FORBIDDEN = {
    "store_schema": {"pipeline", "dcmnet"},
    "pipeline": {"dcmnet"},
    "dcmnet": set(),
}
# A store is read and written without a network, and without the memory JAX takes.
WITHOUT_JAX = {"store_schema", "pipeline"}
JAX = {"jax", "jaxlib", "flax", "e3x", "optax", "orbax"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
# What published code fixed: padded atoms, all their pairs, grid points.
FIXED_SIZES = {60, 3200, 3540}

FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def name_of(path):
    return str(path.relative_to(ROOT))


def tree_of(path):
    return ast.parse(path.read_text(), filename=str(path))


def imported_packages(tree):
    """Yields the top-level package of every import, those inside functions and by name too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            function = node.func.id if isinstance(node.func, ast.Name) else function
            if function in ("import_module", "__import__"):
                yield str(node.args[0].value).split(".")[0]


def test_every_package_is_looked_at():
    assert {path.relative_to(ROOT).parts[0] for path in FILES} == set(PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_follow_the_data(path):
    package = path.relative_to(ROOT).parts[0]
    imported = set(imported_packages(tree_of(path)))
    assert not imported & FORBIDDEN[package]
    assert "tests" not in imported
    if package in WITHOUT_JAX:
        assert not imported & JAX


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import dcmnet.model as m", {"dcmnet"}),
        ("def f():\n    from dcmnet import config", {"dcmnet"}),
        ("if TYPE_CHECKING:\n    import jax.numpy", {"jax"}),
        ("importlib.import_module('dcmnet.cli')", {"dcmnet"}),
        ("__import__('flax')", {"flax"}),
    ],
)
def test_no_way_to_import_escapes_the_check(source, found):
    assert set(imported_packages(ast.parse(source))) == found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_say_what_they_hold_and_stay_small(path):
    assert not re.search(r"util|helper|misc|common|stuff", path.stem)
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # The docstring is for its readers, as long as they need it.
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= MAX_FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_size_of_a_molecule_is_fixed(path):
    """The trap of fixed 60 atoms or 3200 points."""
    found = {
        node.value
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and type(node.value) is int
    }
    assert not found & FIXED_SIZES


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_constants_of_nature_are_in_one_place(path):
    """The trap of a mistyped bohr factor: nobody types one again."""
    if name_of(path) == "store_schema/units.py":
        return
    digits = re.compile(r"0\.529\d|1\.88[89]\d|627\.\d|27\.211|4\.803\d|0\.2081\d|2\.5417")
    assert not digits.search(path.read_text())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_is_left_undone(path):
    assert not re.search(r"NotImplementedError|TODO|FIXME|XXX", path.read_text())
