"""Parameters published as pickles, read without executing them.

The pickles hold arrays of a JAX that no longer exists. The unpickler admits what
rebuilds a plain numpy array and refuses every other name, so an untrusted file
cannot run code.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray

from dcmnet.config import ModelConfig
from store_schema.problems import CheckpointError


def _rebuild_jax_array(
    rebuild: Callable[..., np.ndarray], arguments: tuple[Any, ...], state: Any, *_: Any
) -> np.ndarray:
    array = rebuild(*arguments)
    array.__setstate__(state)
    return array


_ADMITTED: Mapping[tuple[str, str], Any] = {
    ("jax._src.array", "_reconstruct_array"): _rebuild_jax_array,
    ("numpy._core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not an array") from None


def _refused(path: Path, received: str) -> CheckpointError:
    return CheckpointError.of(
        str(path),
        wrong="this is not a pickle of nested dictionaries of numeric arrays, as DCM-Net was "
        f"published: {received}",
        consequence="no parameters were read and nothing in it was executed",
        remedy="Give the .pkl of a published DCM-Net, or an experiment's directory",
    )


def _check_arrays(tree: Any, path: Path, place: str = "") -> None:
    if isinstance(tree, dict):
        for name, branch in tree.items():
            _check_arrays(branch, path, f"{place}/{name}")
    elif not (isinstance(tree, np.ndarray) and tree.dtype.kind == "f"):
        raise _refused(path, f"{type(tree).__name__} at {place or 'the top'}")


def read_published(path: str | Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Reads a published pickle.

    Args:
        path: The ``.pkl`` file.

    Returns:
        The configuration that its shapes imply (the rest as published: cutoff 4 angstrom,
        pseudotensors, displacements within 0.175 angstrom) and the parameters of
        ``dcmnet.model.DCMNet``.

    Raises:
        CheckpointError: The file holds anything but arrays, or not this network.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            tree = _ArrayUnpickler(file).load()
    except OSError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:  # a damaged pickle raises nearly anything
        raise _refused(path, f"{type(error).__name__}: {error}") from error
    try:
        _check_arrays(tree, path)
        return _translate(tree["params"])
    # Whatever another tree than the published one does here, it is another tree.
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _refused(path, f"another network ({type(error).__name__}: {error})") from error


def _translate(flat: dict[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    iterations = sum(name.startswith("MessagePass_") for name in flat)
    head_dense = f"Dense_{2 * iterations}"
    head = {"TensorDense_0", head_dense, "element_bias"}
    numbers, _, _, features = flat["Embed_0"]["embedding"].shape
    kernels = flat["MessagePass_0"]["filter"]
    config = ModelConfig(
        features=features,
        max_degree=len(kernels) - 1,
        num_iterations=iterations,
        num_basis_functions=kernels["0+"]["kernel"].shape[0],
        n_dcm=flat[head_dense]["kernel"].shape[0],
        max_atomic_number=numbers - 1,
    )
    return config, {
        "params": {
            "message_passing": {name: flat[name] for name in flat if name not in head},
            "charge_head": {
                "TensorDense_0": flat["TensorDense_0"],
                "Dense_0": flat[head_dense],
                "element_bias": flat["element_bias"],
            },
        }
    }
