"""Models frozen into StableHLO: one file that runs molecules of any size without this package."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import jax
import jax.export
import jax.numpy as jnp
from ase.data import chemical_symbols, covalent_radii

from dcmnet.experiment.directory import load_model
from dcmnet.experiment.versions import installed_versions
from dcmnet.model.program import Charges, of_molecules, shapes_of_molecules
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction import artefact_runner
from dcmnet.prediction.outputs import new_file

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
        program = jax.export.export(jax.jit(_program(trained)), platforms=PLATFORMS)(
            *shapes_of_molecules()
        )
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(artefact_runner.MODEL, bytes(program.serialize()))
            archive.writestr(artefact_runner.METADATA, json.dumps(_metadata(trained), indent=2))
            archive.write(artefact_runner.__file__, "artefact_runner.py")
            archive.writestr("__main__.py", _RUN)
    return path


def _program(model: TrainedModel) -> Callable[..., Charges]:
    """Returns the network as a function of molecules alone, its parameters inside."""
    params = jax.tree.map(jnp.asarray, model.params)  # published ones are of numpy
    return functools.partial(of_molecules(model.network), params)


def _metadata(model: TrainedModel) -> dict[str, Any]:
    network, charges = model.config, model.domain.total_charges
    return {
        "name": model.name,
        "epoch": model.epoch,
        "elements": None if model.elements is None else sorted(model.elements),
        "total_charges": None if charges is None else sorted(charges),
        "radicals": model.domain.radicals,
        "most_atoms": model.domain.most_atoms,
        "cutoff": network.cutoff,
        "n_dcm": network.n_dcm,
        "max_atomic_number": network.max_atomic_number,
        "symbols": chemical_symbols[: network.max_atomic_number + 1],
        "covalent_radii": covalent_radii[: network.max_atomic_number + 1].tolist(),
        "units": {"length": "angstrom", "charge": "e"},
        "versions": installed_versions(_VERSIONED),
    }
