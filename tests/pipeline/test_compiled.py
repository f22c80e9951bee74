"""Compiled functions: kept between starts, and usable where nothing can be kept."""

import numpy as np
import pytest
from numba.core import caching

from pipeline.compiled import compiled


def total(values):
    result = 0.0
    for value in values:
        result += value
    return result


def test_a_compiled_function_gives_what_python_gives():
    values = np.random.default_rng(0).normal(size=50)
    function = compiled(total)
    assert function(values) == total(values)
    assert function.stats.cache_path


def test_where_nothing_can_be_kept_it_is_compiled_at_every_start(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    function = compiled(total)
    assert function(np.arange(4.0)) == 6
    with pytest.raises(AttributeError):
        function.stats.cache_path.startswith("/")
