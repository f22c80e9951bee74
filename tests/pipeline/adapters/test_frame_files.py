"""Frames of extended XYZ and of ASE: what of them is a molecule, a charge, a unit."""

from __future__ import annotations

import ase
import ase.db
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from pipeline import ingest, read_schema
from pipeline.adapters import discover
from pipeline.adapters.frame_files import XyzFile
from store_schema.problems import AmbiguityError, SourceError
from store_schema.units import HARTREE_IN_EV
from tests.pipeline.adapters.written_formats import stored, water


def test_sites_without_an_element_are_no_atoms(tmp_path):
    atoms = ase.Atoms("OXH2", [[0, 0, 0.119], [0, 0, 0], [0, 0.763, -0.477], [0, -0.763, -0.477]])
    ase.io.write(tmp_path / "a.xyz", atoms)
    found = stored(tmp_path / "a.xyz", tmp_path / "a.zarr")
    np.testing.assert_array_equal(found.atomic_numbers, [[8, 1, 1]])
    np.testing.assert_allclose(found.positions[0, 1], atoms.positions[2], atol=1e-6)
    atoms.set_initial_charges([0, -1, 0, 0])  # as this package writes predicted charges
    ase.io.write(tmp_path / "b.xyz", atoms)
    assert stored(tmp_path / "b.xyz", tmp_path / "b.zarr").total_charge.values.tolist() == [-1]


def test_initial_charges_are_the_net_charge(tmp_path):
    ion, neutral = water(), water()
    ion.set_initial_charges([-1.0, 0.0, 0.0])
    neutral.set_initial_charges([-0.8, 0.4, 0.4])
    ase.io.write(tmp_path / "a.xyz", [ion, neutral])
    found = stored(tmp_path / "a.xyz", tmp_path / "a.zarr")
    assert found.total_charge.values.tolist() == [-1.0, 0.0]
    ion.info["charge"] = 1
    neutral.info["charge"] = 0
    ase.io.write(tmp_path / "b.xyz", [ion, neutral])
    with pytest.raises(AmbiguityError, match="initial_charges_sum"):
        ingest([tmp_path / "b.xyz"], tmp_path / "b.zarr")


def test_guesses_of_charges_without_a_sum_say_nothing(tmp_path):
    atoms = water()
    atoms.set_initial_charges([-0.8, 0.4, 0.4])
    ase.io.write(tmp_path / "a.xyz", [atoms])
    ingest([tmp_path / "a.xyz"], tmp_path / "a.zarr")
    assert "initial_charges_sum" not in read_schema(tmp_path / "a.zarr").sources[0].keys


@pytest.mark.parametrize("suffix", [".traj", ".db"])
def test_what_a_calculator_left_is_in_units_of_ase(suffix, tmp_path):
    frames = []
    for index in range(3):
        atoms = water()
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=-76.3 * HARTREE_IN_EV + 0.01 * index,
            dipole=np.array([0.0, 0.0, -0.38]),
        )
        frames.append(atoms)
    ase.io.write(tmp_path / f"a{suffix}", frames)
    found = stored(tmp_path / f"a{suffix}", tmp_path / "a.zarr", declare={"total_charge": "0"})
    np.testing.assert_allclose(found.energy, -76.3 + 0.01 * np.arange(3) / HARTREE_IN_EV, rtol=1e-6)
    np.testing.assert_allclose(found.dipole[0], [0, 0, -0.38], atol=1e-6)


def test_a_database_says_the_units_of_its_data(tmp_path):
    """As SchNetPack writes them."""
    with ase.db.connect(tmp_path / "a.db") as rows:
        for index in range(3):
            rows.write(water(), data={"energy": np.array([-76.3 + 0.001 * index])})
        rows.metadata = {"_property_unit_dict": {"energy": "Hartree"}, "_distance_unit": "Ang"}
    found = stored(tmp_path / "a.db", tmp_path / "a.zarr")
    np.testing.assert_allclose(found.energy, -76.3 + 0.001 * np.arange(3), rtol=1e-6)


def test_a_database_of_something_else_is_left_as_it_is(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "a.db") as other:
        other.execute("CREATE TABLE songs (name TEXT)")
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(SourceError, match="not made"):
        discover([tmp_path / "a.db"])
    assert (tmp_path / "a.db").read_bytes() == before


def test_files_of_one_frame_are_one_source(tmp_path):
    for index in range(4):
        ase.io.write(tmp_path / f"water{index}.xyz", water(charge=-(index % 2)))
    (source,) = discover([tmp_path])
    assert source.layout.n_molecules == 4
    found = stored(tmp_path, tmp_path / "a.zarr")
    assert found.molecule_id.values.tolist() == [f"water{i}" for i in range(4)]
    assert found.total_charge.values.tolist() == [0, -1, 0, -1]


@pytest.mark.parametrize("charge", ["T", "1+", "-1;multiplicity=1", "minus"])
def test_a_charge_that_is_no_number_is_refused_with_its_frame(charge, tmp_path):
    frames = "3\ncharge={}\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"
    (tmp_path / "a.xyz").write_text(frames.format(0) + frames.format(charge))
    with pytest.raises(SourceError, match=r"frame 1: .*no net charge"):
        ingest([tmp_path / "a.xyz"], tmp_path / "a.zarr")


def test_words_of_a_comment_are_no_variables(tmp_path):
    frame = "3\nmol {} charge=0 done\nO 0 0 0.119\nH 0 0.763 -0.477\nH 0 -0.763 -0.477\n"
    (tmp_path / "a.xyz").write_text("".join(frame.format(i) for i in range(4)))
    (source,) = discover([tmp_path / "a.xyz"])
    assert set(source.columns) == {"numbers", "positions", "charge"}


def test_columns_without_a_name_are_said_to_be_left_out(tmp_path):
    rows = ["O 0 0 0.119 -0.7", "H 0 0.763 -0.477 0.35", "H 0 -0.763 -0.477 0.35"]
    (tmp_path / "a.xyz").write_text("\n".join(["3", "", *rows]) + "\n")
    report = ingest([tmp_path / "a.xyz"], tmp_path / "a.zarr")
    assert any("columns after the positions" in warning for warning in report.warnings)


WATER = [("O", 8, "0 0 0.12"), ("H", 1, "0 0.76 -0.48"), ("H", 1, "0 -0.76 -0.48")]


@pytest.mark.parametrize("comment", ["", 'Properties=species:S:1:pos:R:3 pbc="F F F"'])
def test_atomic_numbers_and_a_byte_order_mark_are_read(comment, tmp_path):
    rows = [f"  {number} {place}" for _, number, place in WATER]
    text = "\n".join(["3", comment, *rows]) + "\n"
    (tmp_path / "a.xyz").write_text(text + text, encoding="utf-8-sig")
    file = XyzFile(tmp_path / "a.xyz")
    assert len(file) == 2
    for frame in file.frames():
        assert frame.atoms.get_chemical_symbols() == ["O", "H", "H"]
        np.testing.assert_allclose(frame.atoms.positions[1], [0, 0.76, -0.48])


def test_atoms_that_are_counted_have_no_elements(tmp_path):
    rows = [f"{index} {place}" for index, (_, _, place) in enumerate(WATER, 1)]
    (tmp_path / "a.xyz").write_text("\n".join(["3", "", *rows]))
    with pytest.raises(ValueError, match="no symbol of an element"):
        XyzFile(tmp_path / "a.xyz").frame(0)
