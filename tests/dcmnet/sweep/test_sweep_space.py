"""Spaces of sweeps: what is wrong with one is told at once, all of it, with the right names."""

import json

import pytest

pytest.importorskip("optuna")

from dcmnet.sweep.space import load_space, parse_space
from store_schema.problems import ConfigError

pytestmark = pytest.mark.distributed
SEARCH = {"model.n_dcm": {"kind": "int", "low": 1, "high": 4}}
RATE = {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}


def test_a_space_is_read_as_it_was_written(tmp_path):
    fields = {"name": "first", "search": {**SEARCH, "learning_rate": RATE}, "preset": "quick"}
    (tmp_path / "space.json").write_text(json.dumps(fields))
    space = load_space(tmp_path / "space.json")
    assert parse_space(space.model_dump(mode="json")) == space
    config = space.experiment({"model.n_dcm": 3, "learning_rate": 2e-3})
    assert config.model.n_dcm == 3
    assert config.training.learning_rate == 2e-3
    assert config.training.num_epochs == 50, "of the preset"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"search": {}}, "search"),
        ({"search": SEARCH, "trails": 3}, "Did you mean trials"),
        ({"search": {"model.n_dmc": SEARCH["model.n_dcm"]}}, "model.n_dcm"),
        ({"search": {"n_dcm": {"kind": "int", "low": 0, "high": 4}}}, "greater than or equal to 1"),
        ({"search": {"n_dcm": {"kind": "int", "low": 4, "high": 4}}}, "below high"),
        ({"search": {"n_dcm": {"kind": "int", "low": 1, "high": 4, "step": 2}}}, "multiple"),
        ({"search": {"n_dcm": {"kind": "int", "low": 1, "hihg": 4}}}, "Did you mean high"),
        ({"search": {"n_dcm": {"kind": "float", "low": 1, "high": 4}}}, "valid integer"),
        ({"search": {"n_dcm": {"kind": "choice", "values": [1, "x"]}}}, "valid integer"),
        ({"search": {"n_dcm": {"kind": "choice", "values": [1, 1]}}}, "twice"),
        ({"search": {"learning_rate": {**RATE, "low": 0.0}}}, "above 0"),
        ({"search": {"learning_rate": {**RATE, "kind": "flaot"}}}, "'float', 'int', 'choice'"),
        ({"search": {"learning_rate": {"low": 0.1, "high": 1.0}}}, "it has no 'kind'"),
        ({"search": {"n_dcm": {"kind": "int", "low": 1}}}, "it has no value"),
        ({"search": SEARCH, "fixed": {"n_dcm": 2}}, "named twice"),
        ({"search": SEARCH, "fixed": {"store": "x.zarr"}}, "the sweep sets"),
        ({"search": SEARCH, "fixed": {"lerning_rate": 1}}, "learning_rate"),
        ({"search": SEARCH, "preset": "fast"}, "quick or quality"),
        ({"search": SEARCH, "pruner": {"kind": "hope"}}, "median"),
    ],
    ids=str,
)
def test_what_is_wrong_is_told(fields, told):
    with pytest.raises(ConfigError) as caught:
        parse_space(fields)
    assert told in str(caught.value)


def test_all_that_is_wrong_is_told_at_once():
    wrong = {
        "n_dcm": {"kind": "int", "low": 0, "high": 2},
        "cutoff": {"kind": "float", "low": -1.0, "high": 2.0},
    }
    with pytest.raises(ConfigError) as caught:
        parse_space({"search": wrong})
    assert len(caught.value.problems) == 2


def test_a_field_may_need_another_that_is_searched():
    """Without an ESP and monopoles there is something to learn only with dipoles."""
    search = {"dipole_w": {"kind": "float", "low": 0.1, "high": 1.0}}
    assert parse_space({"search": search, "fixed": {"esp_w": 0, "chg_w": 0}}).search


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"docs/sweeps\.md"):
        load_space(tmp_path / "none.json")
