"""The table that --verbose shows, with lovely_jax and without."""

import importlib.util
import io

import jax
import pytest
from rich.console import Console

from dcmnet.model.parameter_table import print_parameters
from tests.molecules import SmallNetwork


@pytest.fixture(scope="module")
def params():
    return SmallNetwork.make().params


def printed(params):
    console = Console(width=80, record=True, file=io.StringIO())
    print_parameters(params, console)
    return console.export_text()


def test_every_parameter_is_counted(params):
    text = printed(params)
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    assert f"{sum(sizes):,}" in text.split("all", 1)[1]
    assert "charge_head/element_bias" in text
    assert "params/" not in text
    assert all(len(line) <= 80 for line in text.splitlines())


@pytest.mark.skipif(not importlib.util.find_spec("lovely_jax"), reason="lovely_jax is an extra")
def test_values_are_summed_up(params):
    text = printed(params)
    assert text.count("Array[") == len(jax.tree.leaves(params))
    assert "\x1b" not in text


def test_without_lovely_jax_it_is_named(params, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = printed(params)
    assert "Array[" not in text
    assert "'dcm-store[verbose]'" in text
