"""From structures to data: whole, resumed, and with what failed named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline import ingest, open_store, read_schema
from pipeline.inspection.validate import validate_store
from pipeline.reference.calculation import CalculationError
from pipeline.reference.pool import calculated
from pipeline.reference.run import method_of, reference
from pipeline.reference.tight_binding import TightBinding
from store_schema.problems import ConfigError, SourceError, StoreError
from tests.hostile import outcome

FEW = ["O water", "C methane", "[NH4+] ammonium", "[O-]C=O formate", "CC ethane"]


@pytest.fixture
def molecules(tmp_path):
    (tmp_path / "few.smi").write_text("\n".join(FEW))
    return tmp_path / "few.smi"


def cheap(*structures, out, **options):
    return reference(structures, out, level="xtb", n_points=60, workers=1, **options)


def test_an_npz_is_ingested_without_a_question(molecules, tmp_path):
    level = "PBE0/def2-SVP"
    report = reference([molecules], tmp_path / "a.npz", level=level, n_points=60, workers=1)
    assert (report.n_molecules, report.failures) == (len(FEW), {})
    assert not list(tmp_path.glob("*.parts"))
    ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    found = open_store(tmp_path / "a.zarr").to_dataset()
    names = [line.split()[1] for line in FEW]
    assert found.molecule_id.values.tolist() == names
    assert found.total_charge.values.tolist() == [0, 0, 1, -1, 0]
    assert found.n_grid.values.tolist() == [60] * len(FEW)
    assert read_schema(tmp_path / "a.zarr").sources[0].level_of_theory == level


def test_a_store_is_what_its_npz_would_be(molecules, tmp_path):
    for out in ("a.npz", "b.zarr"):
        cheap(molecules, out=tmp_path / out, conformers=2, displace=0.05)
    ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    one, other = (open_store(tmp_path / name).to_dataset().load() for name in ("a.zarr", "b.zarr"))
    assert one.sizes["molecule"] == 2 * len(FEW)
    assert set(one.variables) == set(other.variables)
    for name in one.data_vars:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_displaced_atoms_are_displaced_by_as_much(molecules, tmp_path):
    cheap(molecules, out=tmp_path / "a.npz")
    cheap(molecules, out=tmp_path / "b.npz", displace=0.05)
    with np.load(tmp_path / "a.npz") as still, np.load(tmp_path / "b.npz") as moved:
        step = (moved["R"] - still["R"])[still["Z"] > 0]
    assert 0.03 < step.std() < 0.07


def test_forces_are_only_calculated_where_they_are_wanted(molecules, tmp_path):
    cheap(molecules, out=tmp_path / "a.npz", forces=True)
    with np.load(tmp_path / "a.npz") as raw:
        total = np.nansum(raw["F"], axis=1)
    np.testing.assert_allclose(total, 0, atol=1e-6)


def test_what_fails_is_named_and_left_out(tmp_path):
    (tmp_path / "a.smi").write_text("O water\nC(C)(C)(C)(C)C wrong\nnonsense\n")
    (tmp_path / "b.xyz").write_text("1\nmultiplicity=2\nHe 0 0 0\n1\ncharge=0\nHe 0 0 0\n")
    report = cheap(tmp_path / "a.smi", tmp_path / "b.xyz", out=tmp_path / "a.npz")
    assert report.n_molecules == 2
    places = [place.rsplit("/")[-1] for place in report.failures]
    assert places == ["a.smi, line 2", "a.smi, line 3", "b.xyz, frame 0"]
    assert report.n_without_charge == 1


def test_another_charge_than_the_formal_one_is_not_calculated(molecules, tmp_path):
    with pytest.raises(SourceError, match="net charge is 0, where 1 was given"):
        cheap("O", out=tmp_path / "a.npz", total_charge=1)
    assert not (tmp_path / "a.npz").exists()


def test_nothing_is_replaced(molecules, tmp_path):
    (tmp_path / "a.npz").write_text("mine")
    with pytest.raises(StoreError, match="of this name already"):
        cheap(molecules, out=tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_text() == "mine"


@pytest.mark.parametrize("level", ["PBE0", "PBE0/", "/def2-SVP", "PBE0/none", "none/def2-SVP", ""])
def test_levels_that_mean_nothing_are_refused(level):
    with pytest.raises(ConfigError, match="FUNCTIONAL/BASIS"):
        method_of(level)


def children(parent):
    """Processes that a process has started."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in found]


def test_a_run_that_was_killed_is_resumed(tmp_path):
    names = [f"{'C' * n}O {n}" for n in range(1, 12)]
    (tmp_path / "a.smi").write_text("\n".join(names))
    words = [*("reference", "a.smi", "--level", "xtb", "--points", "60"), "--out", "a.npz"]
    run = subprocess.Popen(
        [sys.executable, "-m", "dcmnet", *words, "--workers", "1"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while len(list(tmp_path.glob("a.npz.parts/*.npz"))) < 3 and run.poll() is None:
        time.sleep(0.01)
    workers = children(run.pid)
    assert workers
    run.kill()
    run.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "workers outlive who started them"
        time.sleep(0.1)
    assert not (tmp_path / "a.npz").exists()
    report = cheap(tmp_path / "a.smi", out=tmp_path / "a.npz")
    assert (report.n_molecules, report.failures) == (len(names), {})
    assert report.n_resumed >= 3
    cheap(tmp_path / "a.smi", out=tmp_path / "b.npz")
    with np.load(tmp_path / "a.npz") as resumed, np.load(tmp_path / "b.npz") as whole:
        assert resumed.files == whole.files
        for key in whole.files:
            np.testing.assert_array_equal(resumed[key], whole[key], err_msg=key)


@dataclass(frozen=True)
class Deadly:
    """Kills its process at one molecule, and has no answer for another."""

    level: str = "deadly"

    def __call__(self, geometry, points, forces):
        if geometry.name == "methane":
            os.kill(os.getpid(), signal.SIGKILL)
        if geometry.name == "ethane":
            raise CalculationError("no answer")
        return TightBinding()(geometry, points, forces)


def test_a_process_that_dies_takes_only_its_molecule(molecules, tmp_path):
    from pipeline.reference.parts import task_of
    from pipeline.structures import read_structures

    tasks = [task_of(geometry, tmp_path, Deadly(), 60) for geometry in read_structures(molecules)]
    reasons = {task.geometry.name: why for task, why in calculated(tasks, Deadly(), 2)}
    assert reasons.pop("methane").startswith("its process was killed")
    assert reasons.pop("ethane") == "no answer"
    assert set(reasons.values()) == {""}
    assert all(task.file.exists() for task in tasks if task.geometry.name in reasons)


def test_the_command_says_what_it_did(molecules, tmp_path, capsys):
    (tmp_path / "bad.smi").write_text("nonsense")
    words = ("--level", "xtb", "--points", "60", "--workers", "1", "--out", tmp_path / "a.npz")
    assert not outcome("reference", molecules, tmp_path / "bad.smi", *words)
    said = " ".join(capsys.readouterr().out.split())
    assert f"{len(FEW)} molecules at GFN2-xTB (semi-empirical" in said
    assert "bad.smi, line 1" in said
    assert "of this name already" in outcome("reference", "O", *words)


@pytest.mark.parametrize("name", ["a.txt", "a.npzz", "a.xyz"])
def test_what_is_neither_a_store_nor_npz_is_refused(tmp_path, name):
    with pytest.raises(StoreError, match="neither a store nor an NPZ file"):
        reference(["O"], tmp_path / name, level="xtb")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("smiles", ["CC CCC C=C C#C", "O CO CC=O C#N", "[Na+] [OH-] [NH4+]"])
def test_what_it_writes_is_never_asked_about(tmp_path, smiles):
    """Hydrocarbons have charges and dipoles so small that nothing else says their units."""
    cheap(*smiles.split(), out=tmp_path / "a.npz")
    report = ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    assert report.n_quarantined == 0
    assert not validate_store(tmp_path / "a.zarr").problems


def test_a_script_needs_no_guard(molecules, tmp_path):
    """Processes that were started by spawning run a script again, which would start its own."""
    (tmp_path / "script.py").write_text(
        "from pipeline.reference.run import reference\n"
        f"report = reference([{str(molecules)!r}], 'a.npz', level='xtb', n_points=60, workers=2)\n"
        "print(report.n_molecules, report.failures)\n"
    )
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout == f"{len(FEW)} {{}}\n"


def test_a_source_that_is_none_leaves_nothing_behind(molecules, tmp_path):
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0 0 0.96\nH 0.93 0 -0.24\n")
    with pytest.raises(SourceError, match="no bonds"):
        cheap(molecules, tmp_path / "water.xyz", out=tmp_path / "a.npz", conformers=2)
    assert not list(tmp_path.glob("a.npz*"))


def test_an_atom_has_one_conformer(tmp_path):
    assert cheap("[Na+]", "CO", out=tmp_path / "a.npz", conformers=3).n_molecules == 4


def test_unusual_molecules_are_sound(tmp_path):
    """No charges make the ESP of an atom, nor the quadrupole of like atoms far apart."""
    smiles = ["[He]", "[Ar]", "[N]", "[Li][Li]", "ClCl", "CC", "O"]
    options = {"level": "PBE0/def2-SVP", "n_points": 100, "workers": 1}
    assert reference(smiles, tmp_path / "a.npz", **options).n_molecules == len(smiles)
    report = ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    assert report.reasons == {}
