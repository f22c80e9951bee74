"""Models frozen into StableHLO: one file that runs molecules of any size without this package."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jax
import jax.export
import jax.numpy as jnp
from ase.data import chemical_symbols
from jaxtyping import Array, Bool, Float, Int

from dcmnet.experiment.directory import load_model
from dcmnet.experiment.versions import installed_versions
from dcmnet.model import distributed_charges
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction import artefact_runner
from dcmnet.prediction.outputs import new_file
from pipeline.loader import MoleculeBatch

# The program is lowered for each; the file runs on any of them.
PLATFORMS: Final = ("cpu", "cuda", "rocm", "tpu")
_VERSIONED: Final = ("dcm-store", "jax", "jaxlib")
_RUN: Final = "import sys\n\nfrom artefact_runner import main\n\nsys.exit(main(sys.argv))\n"


def export_model(
    model: str | Path | TrainedModel,
    out: str | Path,
    *,
    checkpoint: str = "best",
    overwrite: bool = False,
) -> Path:
    """Writes a model as one file that needs JAX, numpy and flatbuffers to run.

    The file is a zip archive of the program (``jax.export``, with symbolic sizes, so that it
    takes any molecule), its description in JSON, and the module that runs it, which Python
    imports from the archive itself: see ``dcmnet.prediction.artefact_runner``.

    Args:
        model: An experiment, a published ``.pkl``, or a model.
        out: The file.
        checkpoint: ``best``, ``latest`` or ``epoch_N``.
        overwrite: Replace a file of that name.

    Raises:
        CheckpointError: There is no such checkpoint, or it does not fit.
        ConfigError: The file exists.
    """
    path = Path(out)
    with new_file(path, overwrite) as partial:
        trained = model if isinstance(model, TrainedModel) else load_model(model, checkpoint)
        program = jax.export.export(jax.jit(_program(trained)), platforms=PLATFORMS)(*_shapes())
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(artefact_runner.MODEL, bytes(program.serialize()))
            archive.writestr(artefact_runner.METADATA, json.dumps(_metadata(trained), indent=2))
            archive.write(artefact_runner.__file__, "artefact_runner.py")
            archive.writestr("__main__.py", _RUN)
    return path


def _program(model: TrainedModel) -> Callable[..., tuple[Array, Array]]:
    """Returns the network as a function of molecules alone, its parameters inside."""
    params = jax.tree.map(jnp.asarray, model.params)  # published ones are of numpy

    def run(  # noqa: PLR0917 - exported programs are called by place
        atomic_numbers: Int[Array, "B A"],
        positions: Float[Array, "B A 3"],
        total_charge: Float[Array, " B"],
        pair_dst: Int[Array, " P"],
        pair_src: Int[Array, " P"],
        pair_mask: Bool[Array, " P"],
    ) -> tuple[Float[Array, "B A D"], Float[Array, "B A D 3"]]:
        B, A = atomic_numbers.shape
        atoms = atomic_numbers > 0
        real, nowhere = atoms[:, 0], jnp.zeros(B, bool)
        # The network does not look at targets; a batch has places for them.
        fields: dict[str, Any] = {
            "atomic_numbers": atomic_numbers,
            "positions": positions,
            "atom_mask": atoms,
            "total_charge": total_charge,
            "monopoles": jnp.zeros((B, A)),
            "esp": jnp.zeros((B, 0)),
            "vdw_surface": jnp.zeros((B, 0, 3)),
            "electric_field": jnp.zeros((B, 0, 3)),
            "grid_mask": jnp.zeros((B, 0), bool),
            "dipole": jnp.zeros((B, 3)),
            "dipole_magnitude": jnp.zeros(B),
            "quadrupole": jnp.zeros((B, 3, 3)),
            "molecule_mask": real,
            "molecule_index": jnp.zeros(B, jnp.int32),
            "has_total_charge": real,
            "has_monopoles": nowhere,
            "has_esp": nowhere,
            "has_electric_field": nowhere,
            "has_dipole": nowhere,
            "has_dipole_magnitude": nowhere,
            "has_quadrupole": nowhere,
            "pair_dst": pair_dst,
            "pair_src": pair_src,
            "pair_mask": pair_mask,
        }
        return distributed_charges(model.network, params, MoleculeBatch(**fields))

    return run


def _shapes() -> tuple[jax.ShapeDtypeStruct, ...]:
    B, A, P = jax.export.symbolic_shape("B, A, P")
    return (
        jax.ShapeDtypeStruct((B, A), jnp.int32),
        jax.ShapeDtypeStruct((B, A, 3), jnp.float32),
        jax.ShapeDtypeStruct((B,), jnp.float32),
        jax.ShapeDtypeStruct((P,), jnp.int32),
        jax.ShapeDtypeStruct((P,), jnp.int32),
        jax.ShapeDtypeStruct((P,), jnp.bool_),
    )


def _metadata(model: TrainedModel) -> dict[str, Any]:
    network, charges = model.network, model.domain.total_charges
    return {
        "name": model.name,
        "epoch": model.epoch,
        "elements": None if model.elements is None else sorted(model.elements),
        "total_charges": None if charges is None else sorted(charges),
        "cutoff": network.cutoff,
        "n_dcm": network.n_dcm,
        "max_atomic_number": network.max_atomic_number,
        "symbols": chemical_symbols[: network.max_atomic_number + 1],
        "units": {"length": "angstrom", "charge": "e"},
        "versions": installed_versions(_VERSIONED),
    }
