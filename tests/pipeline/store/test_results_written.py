"""Results as written: in any order, while others come, and by two analyses at once."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import open_store
from pipeline.store.layout import MOLECULES_PER_BLOCK
from pipeline.store.results import ResultsWriter
from store_schema import RESULT_VARIABLES
from store_schema.names import DCM, Variable
from store_schema.problems import StoreError
from tests.pipeline.store.store_case import (
    molecules,
    write,
)


def test_results_come_in_any_order(tmp_path):
    store = tmp_path / "a.zarr"
    write(store, molecules(19, 200, 8, 90))
    rng = np.random.default_rng(0)
    rows = rng.permutation(200)[:120]
    charges = rng.normal(size=(120, 6, 4)).astype(np.float32)
    names = ("charges", "esp_rmse")
    split = Variable("split", ("molecule",), "str", "none", "split of the molecule")
    variables = [*(RESULT_VARIABLES[name] for name in names), split]
    arguments = (store, "run", variables, {DCM: 4}, {"epoch": 3})
    with ResultsWriter(*arguments, coordinates=["split"]) as writer:
        writer.write(rows[:50], {"charges": charges[:50]})
        writer.write(rows[50:], {"charges": charges[50:]})
        writer.write(0, {"split": np.array(["train"] * 200, dtype=object)})
        assert "results" not in open_store(store).children
        writer.commit()
    group = open_store(store)["results/run"]
    stored = group["charges"].to_numpy()
    np.testing.assert_array_equal(stored[rows][:, :6], charges)
    assert np.isnan(stored[rows][:, 6:]).all()
    assert np.isnan(np.delete(stored, rows, axis=0)).all()
    assert np.isnan(group["esp_rmse"]).all()
    assert set(group.coords["split"].to_numpy()) == {"train"}
    assert group.attrs["epoch"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    with pytest.raises(StoreError, match="results of this name"):
        ResultsWriter(*arguments)
    with ResultsWriter(*arguments, overwrite=True) as writer:
        writer.commit()
    assert np.isnan(open_store(store)["results/run/charges"]).all()


def test_results_of_whole_blocks_are_written_while_others_come(tmp_path, rng):
    """Of expected rows, in any order, only those of blocks that lack some are in memory."""
    n, store = 2 * MOLECULES_PER_BLOCK + 70, tmp_path / "a.zarr"
    write(store, molecules(23, n, 4, 30))
    expected = rng.random(n) < 0.8
    expected[:MOLECULES_PER_BLOCK] = False
    esp = rng.normal(size=(n, 30)).astype(np.float32)
    variables = [RESULT_VARIABLES["esp_predicted"], RESULT_VARIABLES["esp_rmse"]]
    with ResultsWriter(store, "run", variables, {}, {}, expected=expected) as writer:
        for rows in np.array_split(rng.permutation(np.flatnonzero(expected)), 9):
            writer.write(rows, {"esp_predicted": esp[rows], "esp_rmse": esp[rows, 0]})
        assert not writer._waiting
        with pytest.raises(ValueError, match="twice"):
            writer.write(rows[:1], {"esp_rmse": esp[rows[:1], 0]})
        writer.commit()
    group = open_store(store)["results/run"]
    for name, values in {"esp_predicted": esp, "esp_rmse": esp[:, 0]}.items():
        np.testing.assert_array_equal(group[name][expected], values[expected])
        assert np.isnan(group[name][~expected]).all()


def test_two_analyses_at_once_both_arrive(tmp_path):
    store = tmp_path / "a.zarr"
    write(store, molecules(20, 20, 8, 90))
    variables = [RESULT_VARIABLES["esp_rmse"]]
    with (
        ResultsWriter(store, "one", variables, {}, {}) as one,
        ResultsWriter(store, "two", variables, {}, {}) as two,
    ):
        one.write(0, {"esp_rmse": np.zeros(20)})
        two.write(0, {"esp_rmse": np.ones(20)})
        write(store, molecules(21, 5, 30, 120), append=True)
        one.commit()
        two.commit()
    tree = open_store(store)
    assert set(tree["results"].children) == {"one", "two"}
    assert int(tree["results/two/esp_rmse"].sum()) == 20
    assert tree["results/two"].sizes["molecule"] == 25
