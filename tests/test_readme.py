"""The README is true: its commands exist and run, its Python runs, its folders are there."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer

from dcmnet.cli import app
from pipeline.sample import sample_sources
from tests.commands import run_command
from tests.experiments import SETTINGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^ {4}(dcmnet .+)$", README, re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What is left out of a short run; everything else is as written.
SHORT = {**SETTINGS, "num_epochs": 1, "warmup_epochs": 0}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with data of one's own, as the README supposes."""
    (tmp_path / "mydata").mkdir()
    ions = sample_sources()[1]
    shutil.copy(ions, tmp_path / "mydata" / "a.npz")
    (tmp_path / "molecules.smi").write_text("CO methanol\n")
    (tmp_path / "molecules.xyz").write_text("2\ncharge=-1\nO 0 0 0\nH 0 0 0.97\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_commands_and_its_look_at_the_store_run(here, monkeypatch):
    short = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    cheap = ["--level", "xtb", "--points", "60", "--workers", "1"]
    verbs = [command.split()[1] for command in COMMANDS]
    own = ["ingest", "inspect", "validate", "train", "analyze", "report"]
    assert verbs == ["predict", "predict", *own, "reference"]
    for command, verb in zip(COMMANDS, verbs, strict=True):
        more = {"train": short, "reference": cheap}.get(verb, [])
        run_command([*shlex.split(command), *more], monkeypatch)
    (look,) = [block for block in PYTHON if "open_zarr" in block]
    names = {}
    exec(look, names)
    molecules, tree = names["molecules"], names["tree"]
    assert f"# dims: {', '.join(('molecule', 'atom', 'grid_point', 'xyz'))}" in look
    assert {"molecule", "atom", "grid_point", "xyz"} <= set(molecules.sizes)
    assert np.isfinite(molecules["esp"].mean("grid_point")).all()
    rmse = tree["results/first"]["esp_rmse"]
    assert rmse.attrs["units"] == "kcal/mol/e"
    assert np.isfinite(rmse).any()
    run_command(["dcmnet", "resume", "experiments/first"], monkeypatch)
    run_command(["dcmnet", "bench", "molecules.zarr", "--seconds", "0.1"], monkeypatch)
    for name in re.findall(r"`(dcmnet [a-z]+ [^`]+)`", README):
        assert name.split()[1] in {"resume", "bench", "compare", *verbs}


def test_its_python_runs(here):
    (block,) = [block for block in PYTHON if "run_training" in block]
    short = ", ".join(f"{key}={value!r}" for key, value in SHORT.items())
    assert "num_epochs=100" in block
    names = {"xyz": [[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.0, -0.76, -0.48]]}
    exec(block.replace("num_epochs=100", short), names)
    assert names["report"].n_molecules == 61
    assert names["charges"].shape == (3, 3)  # three atoms, n_dcm=3
    assert names["positions"].shape == (3, 3, 3)
    assert names["charges"].sum() == pytest.approx(0.0, abs=1e-6)
    assert str(names["directory"]) == "experiments/first"
    layout = re.search(r"    experiments/first/\n((?:      .+\n)+)", README)[1]
    promised = [line.split()[0].rstrip("/") for line in layout.splitlines()]
    assert promised == ["config.json", "checkpoints", "metrics.jsonl", "analysis"]
    for name in promised[:-1]:  # the last is what `dcmnet analyze` writes
        assert (here / "experiments" / "first" / name).exists()


def test_its_options_exist():
    command = typer.main.get_command(app)
    options = {
        option
        for sub in command.commands.values()
        for parameter in sub.params
        for option in parameter.opts
    }
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert named
    assert named <= options


def test_its_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b", README))
    assert {"demo", "test"} <= named & targets
    assert set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", README, re.MULTILINE)) <= targets


def test_its_folders_are_there():
    folders = re.findall(r"^\| `(\w+)/` \|", README, re.MULTILINE)
    assert {"store_schema", "pipeline", "dcmnet", "notebooks", "tests"} <= set(folders)
    for folder in folders:
        assert (ROOT / folder).is_dir()


@pytest.mark.parametrize("name", ["LICENSE", "CONTRIBUTING.md"])
def test_files_it_names_are_there(name):
    assert (ROOT / name).is_file()
