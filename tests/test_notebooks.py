"""Notebooks run from top to bottom and show figures; none is committed with output."""

import base64
import io
import os
from pathlib import Path

import matplotlib.image
import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Those that train take a minute each, of what other tests cover.
RUN = [NOTEBOOKS[0], *(pytest.param(path, marks=pytest.mark.slow) for path in NOTEBOOKS[1:])]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_none_is_committed_with_output(notebook):
    nbformat.validate(notebook)
    for cell in code_cells(notebook):
        assert not cell.outputs
        assert cell.execution_count is None


def test_cells_are_short_and_told_about(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 25
        assert "def " not in cell.source  # what is worth a function is worth a test


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_figures(path, tmp_path, monkeypatch, request):
    notebook = nbformat.read(path, as_version=4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(request.config.cache.mkdir("programs")))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    executed = client.execute()
    images = [
        output.data["image/png"]
        for cell in code_cells(executed)
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    sections = [cell for cell in executed.cells if cell.source.startswith("## ")]
    assert len(images) >= len(sections)
    for image in images:
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(image)))[..., :3]
        assert pixels.std() > 0.02
    warned = [
        output.text
        for cell in code_cells(executed)
        for output in cell.outputs
        if output.get("name") == "stderr"
    ]
    assert not warned
