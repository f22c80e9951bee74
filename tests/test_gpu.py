"""On a card: the numbers of the processor, as published, and runs that change between the two."""

from pathlib import Path

import jax
import numpy as np
import pytest

from tests.on_device import (
    CARD,
    CPU,
    has_card,
    loss_and_gradient,
    on,
    published_predictions,
    trained,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_card(), reason="there is no card"),
]
PUBLISHED = Path(__file__).parents[2] / "shared" / "published_model"


def assert_near(found, expected, share):
    """Within a share of the largest entry of each array."""

    def check(one, other):
        scale = max(float(np.abs(other).max(initial=0)), 1e-30)
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=share)

    jax.tree.map(check, found, expected)


@pytest.mark.parametrize("features", [16, 64])
def test_charges_esp_and_gradients_are_those_of_double_precision(features):
    """Of random networks; TensorFloat-32 would make their errors 8,000 times as large."""
    found, platform = on(CARD, loss_and_gradient, features)
    assert platform == ("cpu" if CARD == CPU else "gpu")
    exact, _ = on(CPU, loss_and_gradient, features, True)
    of_cpu, _ = on(CPU, loss_and_gradient, features)
    assert exact[1].dtype == np.float64
    for other in (exact, of_cpu):
        assert_near(found[0], other[0], 5e-4)  # charges, positions, ESP
        assert_near(found[1:], other[1:], 1e-3)  # loss and gradient, of sums over points


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published model is not at hand")
@pytest.mark.parametrize("n_dcm", [2, 3, 4])
def test_published_predictions_are_reproduced(n_dcm):
    found, expected = on(CARD, published_predictions, str(PUBLISHED), n_dcm)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def assert_same_run(found, expected):
    for record, other in zip(found[0], expected[0], strict=True):
        assert record["updates"] == other["updates"]
        for part in ("train", "valid"):
            assert record[part] == pytest.approx(other[part], rel=1e-4, abs=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), found[1], expected[1]
    )


@pytest.mark.parametrize("places", [(CARD,), (CPU, CARD), (CARD, CPU)])
def test_a_run_on_a_card_or_in_part_is_that_on_the_processor(sample_store, tmp_path, places):
    """Two epochs, 16 updates; the second is resumed where there are two places."""
    expected = on(CPU, trained, str(sample_store), str(tmp_path / "one"))
    found, out = None, str(tmp_path / "two")
    for number, place in enumerate(places):
        stop = 1 if number + 1 < len(places) else None
        found = on(place, _trained, str(sample_store), out, stop, number > 0)
    assert_same_run(found, expected)


def _trained(store, out, stop_after, resume):
    return trained(store, out, stop_after=stop_after, resume=resume)
