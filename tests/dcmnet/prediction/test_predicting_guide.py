"""The guide to predicting is true: its commands and its Python run, in its order."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest

from dcmnet import run_training
from dcmnet.cli import main
from dcmnet.prediction.outputs import _FILES, _SIMULATION
from pipeline.sample import sample_sources
from tests.commands import run_command
from tests.dcmnet.prediction.prediction_case import shaken, structure, structures, write_frames
from tests.experiments import SETTINGS, copy

GUIDE = (Path(__file__).parents[3] / "docs" / "predicting.md").read_text()
BLOCKS = re.findall(r"^ {4}((?:dcmnet|python) [^\n]+)$|```python\n(.*?)```", GUIDE, re.M | re.S)


@pytest.fixture(scope="module")
def seeds(sample_store, tmp_path_factory):
    """Experiments like the shared one, from other seeds."""
    settings, out = SETTINGS | {"num_epochs": 1}, tmp_path_factory.mktemp("seeds")
    names = {"second": 1, "third": 2}
    return [
        run_training(name, sample_store, out=str(out), seed=seed, **settings)[2]
        for name, seed in names.items()
    ]


@pytest.fixture
def here(trained, sample_store, tmp_path, monkeypatch):
    """A folder with what the guide supposes: experiments, a store, files of one's own."""
    store = copy(sample_store, tmp_path / "molecules.zarr")
    for name in ("first", "one", "four"):
        copy(trained[2], tmp_path / "experiments" / name, store)
    (tmp_path / "mydata").mkdir()
    shutil.copy(sample_sources()[1], tmp_path / "mydata" / "a.npz")
    write_frames(tmp_path / "molecules.xyz", structures(5))
    write_frames(tmp_path / "water.xyz", [structure("H2O")])
    write_frames(tmp_path / "hydroxide.xyz", [structure("OH", total_charge=-1.0)])
    write_frames(tmp_path / "molecule.xyz", [structure()])
    for name in ("trajectory", "conformers"):
        write_frames(tmp_path / f"{name}.xyz", shaken(structure(), 3))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def run(words, monkeypatch):
    if words[0] == "python":
        subprocess.run([sys.executable, *words[1:]], check=True, stdout=subprocess.DEVNULL)
    else:
        run_command(words, monkeypatch)


@pytest.mark.slow
def test_the_guide_runs(here, seeds, monkeypatch):
    pytest.importorskip("openmm")
    for directory in seeds:
        copy(directory, here / "experiments" / directory.name, here / "molecules.zarr")
    names = {}
    for command, python in BLOCKS:
        if command:
            run(command.split(), monkeypatch)
        else:
            exec(python, names)
    outputs = [word for command, _ in BLOCKS for word in command.split() if "." in word]
    assert all((here / name).exists() for name in outputs)
    assert np.isfinite(names["esp"])
    assert names["charges"].sum() == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(names["charges"].ravel(), names["water"].charges, atol=1e-5)
    assert len(names["sites"]) == len(names["water"].charges)
    frames = ase.io.read("charges.xyz", index=":")
    assert [f.info["total_charge"] for f in frames] == [s.total_charge for s in structures(5)]


def test_the_guide_names_every_format():
    table = GUIDE[: GUIDE.index("Units are")]
    assert all(f"`{suffix}`" in table for suffix in [*_FILES, *_SIMULATION] if suffix != ".extxyz")


def test_commands_refuse_in_a_line(here, monkeypatch, capsys):
    (here / "silane.xyz").write_text("1\n\nSi 0 0 0\n")
    wrong = {
        "silane.xyz --out a.xyz --strict": "not seen Si",
        "silane.xyz --out a.pdb": "cannot end in .pdb",
        "none.xyz --out a.xyz": "nothing of this name",
        "water.xyz --out a.xyz --with H": "ELEMENT=EXPERIMENT",
        "water.xyz --out a.xyz --checkpoint epoch_99": "no checkpoint 'epoch_99'",
        "water.xyz --out a.dcm --residue waytoolongname": "letters and digits",
        "molecules.xyz --out a.dcm": "another geometry of",
        "water.xyz --out a.xyz --refine": "no reference ESP",
        "water.xyz --out a.xyz --charge nan": "net charge is nan",
    }
    for words, named in wrong.items():
        monkeypatch.setattr(sys, "argv", ["dcmnet", "predict", "experiments/first", *words.split()])
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capsys.readouterr().err
        assert stopped.value.code == 1, words
        assert said.startswith("Error: "), said
        assert named in said, (words, said)
        assert "should not happen" not in said
    assert not list(here.glob("a.*")) + list(here.glob(".a*"))


def test_a_warning_is_printed_and_the_charges_written(here, monkeypatch, capsys):
    (here / "silane.xyz").write_text("1\n\nSi 0 0 0\n")
    words = ["dcmnet", "predict", "experiments/first", "silane.xyz", "--out", "a.xyz"]
    run_command(words, monkeypatch)
    said = capsys.readouterr().out
    assert "trial/best has not seen Si in training" in said
    assert "0 was assumed" in said
    assert "1 molecule → a.xyz" in said


def test_training_keeps_a_record_of_elements(trained):
    from dcmnet import load_model

    recorded = load_model(trained[2]).elements
    assert {1, 6, 7, 8} <= recorded
    (trained[2] / "elements.json").rename(trained[2] / "kept.json")
    try:  # an experiment from before there were records: its store tells
        assert load_model(trained[2]).elements == recorded
    finally:
        (trained[2] / "kept.json").rename(trained[2] / "elements.json")
    with pytest.warns(UserWarning, match="has not seen Br in training"):
        load_model(trained[2]).predict([35], [[0.0, 0, 0]])
