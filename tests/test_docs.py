"""The documentation is true: its pages build, its commands exist, its Python runs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from dcmnet.analysis import analyze
from dcmnet.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
COMMANDS = [
    (page.name, command.split())
    for page in [ROOT / "README.md", *PAGES]
    for command in re.findall(r"^ {4}(dcmnet .+)$", page.read_text(), re.MULTILINE)
]


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)


def test_the_pages_build_and_ask_nothing_of_the_network(tmp_path):
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    index = (tmp_path / "index.html").read_text()
    assert "Distributed charge models" in index
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?:[^"]+)"', index)
    assert not loaded
    interface = (tmp_path / "interface" / "dcmnet" / "index.html").read_text()
    assert "grad_clip_norm" in interface


def test_every_page_is_in_the_menu():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = re.findall(r"[\w/-]+\.md", str(menu))
    assert sorted(listed) == [str(page.relative_to(ROOT / "docs")) for page in PAGES]


@pytest.mark.parametrize(("page", "words"), COMMANDS)
def test_commands_and_options_exist(page, words):
    commands = typer.main.get_command(app).commands
    options = {
        name
        for parameter in commands[words[1]].params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("page", ["interface/pipeline.md", "interface/dcmnet.md"])
def test_what_the_interface_lists_can_be_imported(page):
    (imports,) = blocks(page)
    exec(imports, {})


def test_the_python_of_the_analysis_guide_runs(trained, sample_store, tmp_path, monkeypatch):
    shutil.copytree(sample_store, tmp_path / "molecules.zarr")
    monkeypatch.chdir(tmp_path)
    analyze(trained[2], store="molecules.zarr", split="all", name="first", figures=False)
    for block in blocks("analysis.md"):
        exec(block, {})


@pytest.mark.distributed
@pytest.mark.usefixtures("url")
def test_the_python_of_the_guide_to_object_stores_runs():
    (block,) = blocks("object-stores.md")
    exec(block, {})
