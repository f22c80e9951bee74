"""Orders and conventions of quadrupoles: found, asked about, or as declared."""

import itertools

import numpy as np
import pytest

from pipeline import ingest, open_store
from pipeline.inference.quadrupole_forms import columns_of, is_order, name_of
from pipeline.inference.quadrupoles import quadrupole_tensor
from pipeline.sample import sample_sources
from store_schema.problems import AmbiguityError, ConfigError
from store_schema.units import BOHR_IN_ANGSTROM

_, IONS, *_ = sample_sources()
NAMES = ("xx", "xy", "xz", "yy", "yz", "zz")
ORDERS = {
    "rows": ("xx", "xy", "xz", "yy", "yz", "zz"),
    "Gaussian": ("xx", "yy", "zz", "xy", "xz", "yz"),
    "columns": ("xx", "xy", "yy", "xz", "yz", "zz"),
    "Voigt": ("xx", "yy", "zz", "yz", "xz", "xy"),
    "unheard of": ("zz", "xy", "xx", "yz", "yy", "xz"),
}


def truth(traced=True, n=40):
    """Molecules of the reference data, with their quadrupoles in e·Å²."""
    with np.load(IONS) as raw:
        columns = {key: raw[key][:n].copy() for key in raw.files}
    tensor = columns.pop("Q").astype(np.float64) * BOHR_IN_ANGSTROM**2
    if not traced:
        tensor = tensor - np.trace(tensor, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    return columns, tensor


def six(tensor, order):
    return np.stack([tensor[:, "xyz".index(i), "xyz".index(j)] for i, j in order], axis=1)


def stored(folder, columns, **declare):
    np.savez(folder / "a.npz", **columns)
    declare = {key.replace("__", "."): value for key, value in declare.items()}
    ingest([folder / "a.npz"], folder / "a.zarr", declare=declare)
    return open_store(folder / "a.zarr")["quadrupole"].values


def bare(columns):
    """Without what quadrupoles can be held against."""
    left = ("esp", "vdw_surface", "n_grid", "mono")
    return {key: values for key, values in columns.items() if key not in left}


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES))[::37])
def test_names_of_orders_and_columns_are_the_same(order, rng):
    text = ",".join(order)
    assert is_order(text)
    assert name_of(columns_of(text)) == text
    tensor = rng.normal(size=(3, 3, 3))
    tensor += tensor.transpose(0, 2, 1)
    np.testing.assert_array_equal(quadrupole_tensor(six(tensor, order), columns_of(text)), tensor)


@pytest.mark.parametrize("order", ["xx", "xx,xy,xz,yy,yz,yz", "xx,xy,xz,yy,yz,zw", ""])
def test_other_texts_are_no_order(order):
    assert not is_order(order)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("order", [name for name in ORDERS if name != "unheard of"])
def test_the_esp_says_the_order(tmp_path, order, traced):
    columns, tensor = truth(traced)
    found = stored(tmp_path, columns | {"Q": six(tensor, ORDERS[order])})
    np.testing.assert_allclose(found, tensor, atol=1e-4)


@pytest.mark.parametrize("declare", [{}, {"unit__Q": "e*angstrom^2"}])
def test_an_order_of_which_nothing_is_known_is_a_question_that_can_be_answered(tmp_path, declare):
    columns, tensor = truth()
    columns["Q"] = six(tensor, ORDERS["unheard of"])
    with pytest.raises((AmbiguityError, ConfigError), match="Q: "):
        stored(tmp_path, columns, **declare)
    found = stored(tmp_path, columns, order__Q=",".join(ORDERS["unheard of"]))
    np.testing.assert_allclose(found, tensor, atol=1e-4)


@pytest.mark.parametrize("order", ORDERS)
def test_without_anything_to_compare_it_is_asked_about(tmp_path, order):
    columns, tensor = truth()
    columns = bare(columns) | {"Q": six(tensor, ORDERS[order])}
    with pytest.raises(AmbiguityError, match=r"order\.Q=ORDER"):
        stored(tmp_path, columns, unit__Q="e*angstrom^2")
    found = stored(tmp_path, columns, unit__Q="e*angstrom^2", order__Q=",".join(ORDERS[order]))
    np.testing.assert_allclose(found, tensor, atol=1e-4)


@pytest.mark.parametrize("convention", ["plain", "buckingham"])
def test_so_is_the_convention_of_traceless_ones(tmp_path, convention):
    columns, tensor = truth(traced=False)
    columns = bare(columns) | {"Q": tensor * (1.5 if convention == "buckingham" else 1.0)}
    with pytest.raises(AmbiguityError, match=r"convention\.Q=CONVENTION \(plain or buckingham\)"):
        stored(tmp_path, columns, unit__Q="e*angstrom^2")
    found = stored(tmp_path, columns, unit__Q="e*angstrom^2", convention__Q=convention)
    np.testing.assert_allclose(found, tensor, atol=1e-4)


def test_what_is_declared_must_be_possible(tmp_path):
    columns, tensor = truth()
    with pytest.raises(ConfigError, match="do not fit the declaration"):  # it has a trace
        stored(
            tmp_path,
            columns | {"Q": tensor},
            unit__Q="e*angstrom^2",
            convention__Q="buckingham",
        )
    with pytest.raises((AmbiguityError, ConfigError), match="Q: "):
        stored(
            tmp_path,
            columns | {"Q": six(tensor, ORDERS["rows"])},
            order__Q=",".join(ORDERS["Voigt"]),
        )
    for declared, wrong in (
        ({"order__Q": "xx,xy,xz,yy,yz,zz"}, "not six components"),
        ({"convention__Dxyz": "plain"}, "not quadrupoles of molecules"),
        ({"convention__Q": "cartesian"}, "is not one of plain, buckingham"),
        ({"order__Q": "xx,yy"}, "is not an order of six components"),
    ):
        with pytest.raises(ConfigError, match=wrong):
            stored(tmp_path, columns | {"Q": tensor}, **declared)
