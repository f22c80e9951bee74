"""What is read of inputs: the net charge under any name, lengths in angstrom, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from dcmnet.model.molecule import problems_of
from dcmnet.prediction import InMemory, Predictor, open_structures
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, SourceError
from tests.dcmnet.prediction.prediction_case import model
from tests.pipeline.inference.convention_table import REFERENCE

CASES = REFERENCE.parent / "cases"
WATER = "O 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"


def read(path, **options):
    return [each for window in open_structures(path, **options).windows() for each in window]


@pytest.mark.parametrize(
    "words",
    ["charge=-1", "total_charge=-1", "overall_charge=-1.0", "REF_charge=-1", "Charge=-1", "Q=-1"],
)
def test_a_net_charge_is_read_under_any_name(tmp_path, words):
    (tmp_path / "a.xyz").write_text(f"3\nProperties=species:S:1:pos:R:3 {words}\n{WATER}")
    (found,) = read(tmp_path / "a.xyz")
    assert found.total_charge == -1
    assert found.charge_given


def test_two_net_charges_that_differ_are_refused(tmp_path):
    words = "charge=0 overall_charge=-1"
    (tmp_path / "a.xyz").write_text(f"3\nProperties=species:S:1:pos:R:3 {words}\n{WATER}")
    with pytest.raises(SourceError, match="overall_charge=-1"):
        read(tmp_path / "a.xyz")


def test_a_net_charge_that_the_source_contradicts_is_refused(tmp_path):
    path = tmp_path / "oh.xyz"
    path.write_text("2\ncharge=-1\nO 0 0 0\nH 0 0 0.97\n")
    assert read(path, total_charge=-1.0)[0].total_charge == -1
    with pytest.raises(SourceError, match="--charge is 1, but its net charge is -1"):
        read(path, total_charge=1.0)


def test_sites_that_are_no_atoms_are_counted(tmp_path):
    path = tmp_path / "water.xyz"
    atoms = "O 0 0 0.1\nH 0.76 0 -0.48\nH -0.76 0 -0.48\n"
    path.write_text(f"4\ncharge=0\n{atoms}X 0 0 0.2\n3\ncharge=0\n{atoms}")
    molecules = tuple(read(path))
    assert [molecule.sites_left_out for molecule in molecules] == [1, 0]
    (said,) = Predictor(model()).survey(InMemory(molecules)).warnings
    assert "1 of 2 molecules have sites that are no atoms" in said


def test_positions_in_bohr_are_refused(tmp_path):
    longer = "\n".join(
        " ".join([line.split()[0], *(str(float(x) / 0.529177) for x in line.split()[1:])])
        for line in WATER.splitlines()
    )
    (tmp_path / "a.xyz").write_text(f"3\n\n{longer}\n")
    (found,) = read(tmp_path / "a.xyz")
    (problem,) = problems_of(found, 86)
    assert "in bohr" in problem.wrong
    (tmp_path / "b.xyz").write_text(f"3\n\n{WATER}")
    assert not problems_of(read(tmp_path / "b.xyz")[0], 86)


def test_atoms_that_are_far_apart_are_no_other_unit(tmp_path):
    (tmp_path / "a.xyz").write_text("3\n\nHe 0 0 0\nH 0 0 5\nH 0 3 9\n")
    assert not problems_of(read(tmp_path / "a.xyz")[0], 86)


def test_noble_gases_have_no_bonds_that_could_be_too_long(tmp_path):
    (tmp_path / "a.xyz").write_text("3\n\nAr 0 0 0\nAr 0 0 3.76\nAr 0 3.26 1.88\n")
    assert not problems_of(read(tmp_path / "a.xyz")[0], 86)


def test_nothing_is_asked_that_predicting_does_not_need(tmp_path):
    with np.load(sample_sources()[0]) as raw:
        columns = {key: raw[key][:4].copy() for key in ("Z", "R")}
    columns |= {"E": np.arange(4.0), "F": np.ones((4, columns["Z"].shape[1], 3))}
    np.savez(tmp_path / "a.npz", **columns, charge=np.zeros(4))
    assert len(read(tmp_path / "a.npz")) == 4
    np.savez(tmp_path / "b.npz", **columns)
    assert len(read(tmp_path / "b.npz", total_charge=0.0)) == 4


def test_a_reference_esp_is_asked_about_where_it_is_used(tmp_path):
    with np.load(sample_sources()[0]) as raw:
        names = ("Z", "R", "esp", "vdw_surface", "n_grid")
        columns = {key: raw[key][:1].copy() for key in names}
    columns["esp"] = columns["esp"] * 1.4  # of no unit
    np.savez(tmp_path / "a.npz", **columns, charge=np.zeros(1))
    assert len(read(tmp_path / "a.npz")) == 1
    with pytest.raises(AmbiguityError, match="esp"):
        read(tmp_path / "a.npz", with_esp=True)


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not here")
def test_the_cases_are_read():
    assert len(read(CASES / "asparagus_h2co_predict.npz")) == 600
    (charged,) = read(CASES / "mace710_overall_charge.xyz")
    assert charged.total_charge == -1
    (bohr,) = read(CASES / "bohr.xyz")
    assert problems_of(bohr, 86)


def test_initial_charges_of_an_xyz_file_are_its_net_charge(tmp_path):
    path = tmp_path / "ion.xyz"
    properties = "Properties=species:S:1:pos:R:3:initial_charges:R:1"
    path.write_text(f"2\n{properties}\nO 0 0 0 -1.2004\nH 0 0 0.97 0.2\n")
    (ion,) = read(path)
    assert (ion.total_charge, ion.charge_given) == (-1.0, True)
    path.write_text(f"2\n{properties} charge=1\nO 0 0 0 -1.2\nH 0 0 0.97 0.2\n")
    with pytest.raises(SourceError, match=r"frame 0.*charge=1, sum of initial_charges=-1"):
        read(path)
