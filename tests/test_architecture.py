"""The house: who may import whom, and what may not be written down at all."""

import ast
import re
from xml.etree import ElementTree

import pytest

from tests.import_graph import PACKAGES, PICTURE, ROOT, arrows, graph_of

FORBIDDEN = {
    "store_schema": {"pipeline", "dcmnet"},
    "pipeline": {"dcmnet"},
    "dcmnet": set(),
}
# A store is read and written without a network, and without the memory JAX takes.
WITHOUT_JAX = {"store_schema", "pipeline"}
JAX = {"jax", "jaxlib", "flax", "e3x", "optax", "orbax"}
# Far beyond the 300 and 40 lines that we aim at, so that nobody trims a file to fit.
MAX_FILE_LINES, MAX_FUNCTION_LINES = 500, 80

FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
TREES = {path: ast.parse(path.read_text(), filename=str(path)) for path in FILES}


def name_of(path):
    return str(path.relative_to(ROOT))


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


def test_imports_follow_the_data():
    found = {}
    for path, tree in TREES.items():
        package = path.relative_to(ROOT).parts[0]
        barred = FORBIDDEN[package] | {"tests"} | (JAX if package in WITHOUT_JAX else set())
        found[name_of(path)] = set(imported_packages(tree)) & barred
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_folders_import_each_other(package):
    graph = graph_of(package)
    assert len(graph.imports) > 5
    assert sum(map(len, graph.floors())) == len(graph.imports)  # raises where they run in a circle


def test_the_picture_of_the_layout_is_that_of_the_imports():
    drawn = ElementTree.parse(PICTURE).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert drawn.text == arrows([graph_of(package) for package in PACKAGES])


def test_folders_of_the_tests_mirror_those_of_the_code():
    for package in PACKAGES:
        folders = {path.parent.name for path in (ROOT / "tests" / package).glob("*/test_*.py")}
        assert folders <= {path.name for path in (ROOT / package).iterdir()}


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


def test_files_say_what_they_hold_and_stay_small():
    vague = [path for path in FILES if re.search(r"util|helper|misc|common|stuff", path.stem)]
    long = [path for path in FILES if len(path.read_text().splitlines()) > MAX_FILE_LINES]
    assert not [*map(name_of, vague), *map(name_of, long)]
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                # The docstring is for its readers, as long as they need it.
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                assert length <= MAX_FUNCTION_LINES, f"{name_of(path)}: {node.name}"


def test_constants_of_nature_are_in_one_place():
    """The trap of a mistyped bohr factor: nobody types one again."""
    digits = re.compile(r"0\.529\d|1\.88[89]\d|627\.\d|27\.211|4\.803\d|0\.2081\d|2\.5417")
    found = [name_of(path) for path in FILES if digits.search(path.read_text())]
    assert found == ["store_schema/units.py"]


def test_nothing_is_left_undone():
    undone = re.compile(r"NotImplementedError|TODO|FIXME|XXX")
    assert not [name_of(path) for path in FILES if undone.search(path.read_text())]
