"""Every name, shape and oddity seen in files of the wild means the same molecules."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.sample import sample_sources

CLASSIC, IONS, ROLES, _ = sample_sources()
N = 16
BOHR, DEBYE, HARTREE_EV = 0.529177210903, 0.20819434, 27.211386245988


def classic():
    with np.load(CLASSIC) as raw:
        columns = {key: raw[key][:N].copy() for key in raw.files}
    columns["quadrupole"] = np.full((N, 3, 3), np.nan)
    size = (columns["Z"] > 0).sum(axis=1) + (columns["Z"] > 1).sum(axis=1)
    columns["polar"] = 5.0 * size[:, None, None] * np.eye(3)
    return columns


def roles():
    columns = {}
    for name in ("grids_esp.npz", "energies_forces_dipoles.npz"):
        with np.load(ROLES / name) as raw:
            columns |= {key: raw[key].copy() for key in raw.files}
    return columns


def stored(folder, columns, **options):
    folder.mkdir()
    np.savez(folder / "a.npz", **columns)
    ingest([folder / "a.npz"], folder / "a.zarr", **options)
    return open_store(folder / "a.zarr").to_dataset().load()


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    return {make: stored(folder / make.__name__, make()) for make in (classic, roles)}


def renamed(old, new):
    return lambda columns: {new if k == old else k: v for k, v in columns.items()}


def reshaped(key, *shape):
    return lambda columns: columns | {key: columns[key].reshape(shape)}


def put(key, change):
    return lambda columns: columns | {key: change(columns[key], columns)}


def without(key):
    return lambda columns: {k: v for k, v in columns.items() if k != key}


def padded_with(value):
    def change(columns):
        padding = np.arange(columns["esp"].shape[1]) >= columns["n_grid"][:, None]
        grid = np.where(padding[..., None], value, columns["vdw_surface"]).astype(np.float32)
        return {k: v for k, v in columns.items() if k != "n_grid"} | {"vdw_surface": grid}

    return change


def twice(*names):
    return lambda columns: columns | dict.fromkeys(names, columns["vdw_surface"])


CLASSIC_VARIANTS = {
    **{
        f"R is {name}": renamed("R", name) for name in ("positions", "coordinates", "coords", "xyz")
    },
    **{f"Z is {name}": renamed("Z", name) for name in ("atomic_numbers", "z", "numbers")},
    **{f"N is {name}": renamed("N", name) for name in ("n_atoms", "number_of_atoms")},
    "ESP": renamed("esp", "ESP"),
    **{f"grid is {name}": renamed("vdw_surface", name) for name in ("esp_grid", "vdw_grid")},
    "ngrid": renamed("n_grid", "ngrid"),
    "R (n·A,3)": reshaped("R", -1, 3),
    "R flat": reshaped("R", -1),
    "R in bohr": put("R", lambda R, _: R / BOHR),
    "R at the origin where padded with NaN": put(
        "R", lambda R, c: np.where((c["Z"] > 0)[..., None], R, np.nan)
    ),
    "Z float": put("Z", lambda Z, _: Z.astype(np.float32)),
    "N (n,)": reshaped("N", N),
    "N 0-d": put("N", lambda *_: np.array(60)),
    "N of another length": put("N", lambda *_: np.full(N + 3, 60)),
    "N missing": without("N"),
    "mono (n,A)": reshaped("mono", N, 60),
    "esp (n,G,1)": reshaped("esp", N, -1, 1),
    "esp in kcal/mol/e": put("esp", lambda esp, _: esp * 627.509474),
    "grid in bohr": put("vdw_surface", lambda grid, _: np.where(grid == 10000, 0, grid / BOHR)),
    **{f"grid padded with {value}": padded_with(value) for value in (0.0, 1e4, 1e6, np.nan)},
    "the same grid under three keys": twice("esp_grid", "vdw_grid"),
    "n_grid (n,1)": reshaped("n_grid", N, 1),
    "n_grid missing": without("n_grid"),
    "D is dipole": renamed("D", "dipole"),
    "D is dipoles": renamed("D", "dipoles"),
    "D (n,1)": reshaped("D", N, 1),
    "D in e·a0": put("D", lambda D, _: D * DEBYE / BOHR),
    "D in e·Å": put("D", lambda D, _: D * DEBYE),
    "Dxyz in Debye": put("Dxyz", lambda D, _: D * BOHR / DEBYE),
    "Dxyz in e·Å": put("Dxyz", lambda D, _: D * BOHR),
    "quadrupole all missing": without("quadrupole"),
    "polarizability": renamed("polar", "polarizability"),
    "polar in Å^3": put("polar", lambda polar, _: polar * BOHR**3),
    "polar (n,9)": reshaped("polar", N, 9),
    "com not updated": put("com", lambda com, _: com),
    "0-d metadata": lambda columns: columns | {"about": np.array('{"method": "PBE0"}')},
}
ROLES_VARIANTS = {
    "E is energy": renamed("E", "energy"),
    "E is energies": renamed("E", "energies"),
    "E_eV": lambda c: without("E")(c) | {"E_eV": c["E"] * HARTREE_EV},
    "E (n,1)": put("E", lambda E, _: E[:, None]),
    "E as text": put("E", lambda E, _: np.array([repr(float(e)) for e in E])),
    "E in eV": put("E", lambda E, _: E * HARTREE_EV),
    "F is forces": renamed("F", "forces"),
    "F in hartree/bohr": put("F", lambda F, _: F * BOHR),
    "F in eV/Å": put("F", lambda F, _: F * HARTREE_EV),
    "F is the gradient": put("F", lambda F, _: -F),
    "gradient in eV/Å with E in eV": lambda c: (
        c | {"E": c["E"] * HARTREE_EV, "F": -c["F"] * HARTREE_EV}
    ),
    "D flat": reshaped("D", -1),
    "D in Debye": put("D", lambda D, _: D / DEBYE),
    "D in e·a0": put("D", lambda D, _: D / BOHR),
    "Q (n,1)": put("Q", lambda Q, _: Q[:, None]),
    "id bytes": put("id", lambda names, _: names.astype("S")),
}
VARIANTS = [(classic, name) for name in CLASSIC_VARIANTS] + [
    (roles, name) for name in ROLES_VARIANTS
]


@pytest.mark.parametrize(("make", "name"), VARIANTS, ids=[name for _, name in VARIANTS])
def test_every_way_of_writing_means_the_same(tmp_path, expected, make, name):
    change = (CLASSIC_VARIANTS if make is classic else ROLES_VARIANTS)[name]
    found, truth = stored(tmp_path / "a", change(make())), expected[make]
    assert set(found.variables) == set(truth.variables)
    assert found.sizes == truth.sizes
    for variable in truth.variables:
        left, right = found[variable].to_numpy(), truth[variable].to_numpy()
        if right.dtype.kind == "f":
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=3e-4, err_msg=str(variable))
        else:
            np.testing.assert_array_equal(left, right, err_msg=str(variable))


def test_objects_are_energies_where_they_are_allowed(tmp_path, expected):
    columns = roles()
    columns["E"] = np.array(list(columns["E"]), dtype=object)
    found = stored(tmp_path / "a", columns, allow_pickle=True)
    np.testing.assert_allclose(found.energy, expected[roles].energy)


def test_atomic_dipoles_under_d_are_those_of_the_atoms(tmp_path, expected):
    columns, truth = classic(), expected[classic]
    monopoles = np.nan_to_num(truth.monopoles.to_numpy())
    left = truth.dipole.to_numpy() - np.einsum(
        "ma,max->mx", monopoles, np.nan_to_num(truth.positions.to_numpy())
    )
    each = left[:, None] / columns["N"][:, :, None] * (columns["Z"] > 0)[..., None]
    for index, (key, unit) in enumerate((("D", BOHR), ("dip", DEBYE))):
        given = without("D")(columns) | {key: each / unit}
        found = stored(tmp_path / str(index), given)
        inside = np.nan_to_num(found.atomic_dipoles.to_numpy())
        np.testing.assert_allclose(inside, each[:, : inside.shape[1]], atol=1e-5)
