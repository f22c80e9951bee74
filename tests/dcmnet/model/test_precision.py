"""Every matrix product is asked for in full single precision, gradients as well."""

import jax
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from dcmnet.config import ModelConfig
from dcmnet.model import create_model, distributed_charges
from dcmnet.model.observables import observe
from pipeline.loader import make_batch
from tests.molecules import random_molecule, random_parameters


def products(jaxpr):
    """Returns the precision of every matrix product of a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


@pytest.mark.parametrize("differentiated", [False, True])
def test_no_product_is_left_to_the_default_of_a_card(differentiated):
    model = ModelConfig(features=4)
    network, params = create_model(model), random_parameters(model)
    batch = make_batch([random_molecule(np.random.default_rng(0), 5, 20)])

    def loss(params):
        found = observe(*distributed_charges(network, params, batch), batch)
        return sum(part.sum() for part in found)

    program = jax.make_jaxpr(jax.grad(loss) if differentiated else loss)(params)
    found = list(products(program.jaxpr))
    assert len(found) > 10
    assert set(found) == {(jax.lax.Precision.HIGHEST,) * 2}
