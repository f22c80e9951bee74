"""The folders of each package and the imports between them.

``python -m tests.import_graph`` draws the picture of ``docs/layout.md`` and prints, by package,
the number of rooms (folders, and files next to them), floors (the longest chain of imports) and
arrows (pairs of rooms that import).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "layout.svg"
PACKAGES = ("store_schema", "pipeline", "dcmnet")
# Names of the notebook API are found where notebooks look for them.
RE_EXPORTS = {("dcmnet/training/__init__.py", "dcmnet/notebook.py")}


@dataclass(frozen=True)
class Graph:
    """Rooms of a package, and which of them import which.

    Attributes:
        package: Name of the package.
        imports: Rooms that each room imports.
    """

    package: str
    imports: dict[str, set[str]]

    @property
    def n_arrows(self) -> int:
        return sum(map(len, self.imports.values()))

    def floors(self) -> list[list[str]]:
        """Rooms by floor, the ground floor first; a room imports from floors below alone.

        Raises:
            CycleError: Rooms import each other.
        """
        floor: dict[str, int] = {}
        for room in TopologicalSorter(self.imports).static_order():
            floor[room] = 1 + max((floor[below] for below in self.imports[room]), default=0)
        levels: list[list[str]] = [[] for _ in range(max(floor.values()))]
        for room in sorted(floor):
            levels[floor[room] - 1].append(room)
        return levels

    def reduced(self) -> dict[str, set[str]]:
        """Arrows that no longer way stands for, which show the floors without clutter."""

        def below(room: str) -> set[str]:
            return {found for each in self.imports[room] for found in (each, *below(each))}

        return {
            room: {
                each
                for each in direct
                if not any(each in below(other) for other in direct if other != each)
            }
            for room, direct in self.imports.items()
        }


def graph_of(package: str) -> Graph:
    """Reads the imports of a package."""
    imports: dict[str, set[str]] = {}
    for file, imported in _imports(package):
        own = _room(file)
        imports.setdefault(own, set())
        if imported is not None and (file, imported) not in RE_EXPORTS and _room(imported) != own:
            imports[own].add(_room(imported))
            imports.setdefault(_room(imported), set())
    return Graph(package, imports)


def _imports(package: str) -> Iterator[tuple[str, str | None]]:
    """Files of a package, and the files of the same package that they import."""
    for path in sorted((ROOT / package).rglob("*.py")):
        file = str(path.relative_to(ROOT))
        if file == f"{package}/__init__.py":
            continue  # hands on the public names
        yield file, None
        for node in ast.walk(ast.parse(path.read_text(), filename=file)):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                found = _file(name)
                if found is not None and found.startswith(f"{package}/"):
                    yield file, found


def _file(name: str) -> str | None:
    """File of a module, or of what is imported from it."""
    for module in (name, name.rpartition(".")[0]):
        place = ROOT / module.replace(".", "/")
        for candidate in (place.with_suffix(".py"), place / "__init__.py"):
            if module and candidate.is_file():
                return str(candidate.relative_to(ROOT))
    return None


def _room(file: str) -> str:
    """Folder right below the package, or a file next to such folders."""
    return "/".join(file.split("/")[:2]).removesuffix(".py")


def arrows(graphs: list[Graph]) -> str:
    """All arrows that are drawn, one per line."""
    return "\n".join(
        f"{room} -> {each}"
        for graph in graphs
        for room, direct in sorted(graph.reduced().items())
        for each in sorted(direct)
    )


def draw(graphs: list[Graph], path: Path) -> None:
    """Draws the packages beneath each other, their floors as rows, and says so in the file."""
    levels = [graph.floors() for graph in graphs]
    heights = [len(floors) + 1 for floors in levels]
    figure, ax = plt.subplots(figsize=(11, 0.62 * sum(heights)))
    bottom = 0.0
    for graph, floors in zip(graphs, levels, strict=True):
        place = {
            # Every other floor to the right, so that no arrow runs through a box between.
            room: ((i + 0.5) / len(rooms) + (0.09 if row % 2 else -0.03), bottom + row)
            for row, rooms in enumerate(floors)
            for i, room in enumerate(rooms)
        }
        for room, direct in sorted(graph.reduced().items()):
            for each in sorted(direct):
                ax.annotate("", place[each], place[room], arrowprops=_ARROW)
        for room, (x, y) in place.items():
            ax.text(x, y, room.split("/")[1], ha="center", va="center", fontsize=9, bbox=_BOX)
        ax.text(-0.02, bottom + (len(floors) - 1) / 2, graph.package, rotation=90, va="center")
        bottom += len(floors) + 0.6
        ax.axhline(bottom - 0.8, color="0.85", linewidth=1)
    ax.set(xlim=(-0.03, 1), ylim=(-0.5, bottom - 0.9))
    ax.axis("off")
    with plt.rc_context({"svg.hashsalt": "layout", "svg.fonttype": "none"}):
        metadata = {"Date": None, "Description": arrows(graphs)}
        figure.savefig(path, metadata=metadata, bbox_inches="tight")


_ARROW = {"arrowstyle": "-|>", "color": "0.55", "shrinkA": 9, "shrinkB": 13, "linewidth": 0.9}
_BOX = {"boxstyle": "round,pad=0.35", "facecolor": "#e8f0fa", "edgecolor": "#3b6ea5"}


def main() -> None:
    """Draws the picture, and prints the numbers."""
    graphs = [graph_of(package) for package in PACKAGES]
    for graph in graphs:
        try:
            floors = len(graph.floors())
        except CycleError as error:
            sys.exit(f"{graph.package}: {' imports '.join(reversed(error.args[1]))}")
        print(
            f"{graph.package}: {len(graph.imports)} rooms, {floors} floors, {graph.n_arrows} arrows"
        )
    draw(graphs, PICTURE)


if __name__ == "__main__":
    main()
