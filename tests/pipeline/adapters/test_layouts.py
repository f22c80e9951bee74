"""Other layouts of the same molecules make the same store."""

from __future__ import annotations

import numpy as np
import pytest
from ase.data import chemical_symbols

from pipeline import ingest, open_store
from pipeline.adapters import discover
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, SourceError

CLASSIC = sample_sources()[0]
N = 9


def classic():
    with np.load(CLASSIC) as raw:
        columns = {key: raw[key][:N].copy() for key in ("Z", "R", "esp", "vdw_surface", "n_grid")}
    columns["N"] = (columns["Z"] > 0).sum(axis=1)
    return columns


def store_of(folder, name, columns, save=np.savez, **options):
    save(folder / f"{name}.npz", **columns)
    ingest([folder / f"{name}.npz"], folder / f"{name}.zarr", **options)
    return open_store(folder / f"{name}.zarr").to_dataset().load()


def concatenated(columns, *, grids):
    atoms = np.arange(columns["Z"].shape[1]) < columns["N"][:, None]
    points = np.arange(columns["esp"].shape[1]) < columns["n_grid"][:, None]
    flat = {key: columns[key][atoms] for key in ("Z", "R")}
    if grids:
        flat |= {key: columns[key][points] for key in ("esp", "vdw_surface")}
    return columns | flat


@pytest.mark.parametrize("grids", [False, True])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_concatenated_molecules_are_the_padded_ones(tmp_path, grids, save):
    expected = store_of(tmp_path, "padded", classic())
    found = store_of(tmp_path, "flat", concatenated(classic(), grids=grids), save)
    for name in ("positions", "atomic_numbers", "esp", "vdw_surface", "n_atoms", "n_grid"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_concatenated_molecules_are_read_alike_in_any_step(tmp_path):
    np.savez(tmp_path / "a.npz", **concatenated(classic(), grids=True))
    (source,) = discover([tmp_path / "a.npz"])
    whole = next(source.blocks(N)).columns
    for step in (1, 2, 4):
        parts = [block.columns for block in source.blocks(step)]
        for key, values in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), values)
    some = source.sample(np.array([0, 3, 7])).columns
    for key, values in whole.items():
        np.testing.assert_array_equal(some[key], values[[0, 3, 7]])


def test_symbols_are_elements(tmp_path):
    columns = classic()
    expected = store_of(tmp_path, "numbers", columns)
    names = np.array(["", *chemical_symbols[1:]])[columns.pop("Z")]
    found = store_of(tmp_path, "symbols", columns | {"species": names})
    np.testing.assert_array_equal(found.atomic_numbers, expected.atomic_numbers)
    lower = np.char.lower(names).astype("S2")
    again = store_of(tmp_path, "lower", columns | {"species": lower})
    np.testing.assert_array_equal(again.atomic_numbers, expected.atomic_numbers)


def test_a_word_that_is_no_element_sets_its_molecule_aside(tmp_path):
    columns = classic()
    names = np.array(["", *chemical_symbols[1:]])[columns.pop("Z")].astype("U4")
    names[0, 0] = "Xx"
    np.savez(tmp_path / "a.npz", **columns, species=names)
    report = ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    assert (report.n_molecules, report.n_quarantined) == (N - 1, 1)


def test_one_grid_serves_all_molecules(tmp_path):
    columns = classic()
    n = int(columns["n_grid"][0])
    conformers = {key: np.repeat(columns[key][:1], 6, axis=0) for key in ("Z", "R")}
    esp = np.repeat(columns["esp"][:1, :n], 6, axis=0)
    grid = columns["vdw_surface"][0, :n]
    once = conformers | {"esp": esp, "vdw_surface": grid}
    each = conformers | {"esp": esp, "vdw_surface": np.repeat(grid[None], 6, axis=0)}
    declare = {"unit.esp": "hartree/e"}  # one species tells too little
    found = store_of(tmp_path, "once", once, declare=declare)
    expected = store_of(tmp_path, "each", each, declare=declare)
    np.testing.assert_array_equal(found.vdw_surface, expected.vdw_surface)
    np.testing.assert_array_equal(found.esp, expected.esp)


def test_masked_points_are_left_out_wherever_they_are(tmp_path, rng):
    columns = classic()
    mask = rng.random(columns["esp"].shape) < 0.8
    columns["esp"][~mask] = 99.0  # what is masked may be anything
    found = store_of(tmp_path, "a", columns | {"esp_mask": mask})
    real = np.arange(mask.shape[1]) < columns["n_grid"][:, None]
    np.testing.assert_array_equal(found.n_grid, (mask & real).sum(axis=1))
    for row in range(N):
        kept = columns["esp"][row][(mask & real)[row]]
        np.testing.assert_allclose(found.esp.to_numpy()[row, : len(kept)], kept)


def test_a_known_key_of_a_length_that_fits_nothing_is_an_error(tmp_path):
    columns = classic() | {"forces": np.zeros((N + 1, 4, 3))}
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(SourceError, match=r"forces.*--declare forces=unknown"):
        ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    ingest([tmp_path / "a.npz"], tmp_path / "a.zarr", declare={"forces": "unknown"})
    assert "forces" not in open_store(tmp_path / "a.zarr")


@pytest.mark.parametrize("lengths", [np.int64, object])
def test_integers_called_charges_are_atomic_numbers_where_no_other_key_has_them(lengths, tmp_path):
    """As QM9 is written for Cormorant, and revised QM9, whose lengths are Python objects."""
    with np.load(sample_sources()[0]) as raw:
        numbers, positions = raw["Z"][:8].astype(np.int64), raw["R"][:8]
    counts = (numbers > 0).sum(axis=1)
    np.savez(
        tmp_path / "a.npz",
        charges=numbers,
        positions=positions,
        num_atoms=counts.astype(lengths),
        index=np.arange(8),
    )
    report = ingest([tmp_path / "a.npz"], tmp_path / "a.zarr")
    found = open_store(tmp_path / "a.zarr").to_dataset()
    np.testing.assert_array_equal(found.n_atoms, counts)
    np.testing.assert_array_equal(found.atomic_numbers, numbers[:, : counts.max()])
    assert report.schema.sources[0].keys["charges"].semantics == "atomic_numbers"
    assert any("taken for atomic numbers" in warning for warning in report.warnings)
    for wrong in (np.where(numbers == 8, -1, 0), (numbers > 0).astype(int)):
        np.savez(tmp_path / "c.npz", charges=wrong, positions=positions)
        with pytest.raises(AmbiguityError, match="formal charges or a mask"):
            ingest([tmp_path / "c.npz"], tmp_path / "c.zarr")
    np.savez(tmp_path / "b.npz", charges=numbers.astype(float), positions=positions)
    with pytest.raises(SourceError, match="atomic_numbers"):
        ingest([tmp_path / "b.npz"], tmp_path / "b.zarr")
