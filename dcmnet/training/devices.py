"""Data-parallel training: the molecules of a batch dealt to all local devices.

Each device works on molecules of its own, and what it leaves are sums, which are
added up across devices before anything is divided. So the result is that of one
device but for the rounding of the sums, whatever the number of devices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pipeline.loader import MoleculeBatch
from pipeline.loader.pairs import pad_pairs

AXIS = "device"
SUMMED = PartitionSpec()
BY_MOLECULE = PartitionSpec(AXIS)
_PAIR_FIELDS = ("pair_dst", "pair_src", "pair_mask")
# Room for the pairs of a device, over an equal share of the batch's: steps fine enough
# to pad little, coarse enough that XLA compiles few shapes.
_ROOMS = (1.0, 1.5, 2.0, 3.0)

_Tree = TypeVar("_Tree")


class LocalDevices:
    """The devices that a run is spread over.

    Attributes:
        count: How many there are.
    """

    def __init__(self, devices: Sequence[jax.Device] | None = None) -> None:
        """Takes all local devices by default."""
        chosen = list(devices or jax.local_devices())
        self.count = len(chosen)
        self._mesh = Mesh(np.array(chosen), (AXIS,))

    def replicate(self, tree: _Tree) -> _Tree:
        """Returns a tree with a copy of every array on every device."""
        if self.count == 1:
            return tree
        return jax.device_put(tree, NamedSharding(self._mesh, SUMMED))

    def dealing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that deals its last argument, a batch, to the devices."""
        if self.count == 1:
            return function
        sharding = NamedSharding(self._mesh, BY_MOLECULE)

        def dealt(*arguments: Any) -> Any:
            *others, batch = arguments
            return function(*others, jax.device_put(deal(batch, self.count), sharding))

        return dealt

    def map(self, function: Callable[..., Any], out: Any) -> Callable[..., Any]:
        """Runs a function of ``(params, batch)`` on every device, on its part of a batch.

        Args:
            function: Adds up across ``AXIS`` what it returns as ``SUMMED``.
            out: ``SUMMED`` or ``BY_MOLECULE`` for what it returns, or a tree of them.

        Returns:
            A function of the parameters and a batch that was dealt. Entries of molecules
            are in the order of the batch, with those of empty molecules behind.
        """

        def on_one(params: Any, part: MoleculeBatch) -> Any:
            return function(params, jax.tree.map(lambda array: array[0], part))

        return jax.shard_map(
            on_one,
            mesh=self._mesh,
            in_specs=(SUMMED, BY_MOLECULE),
            out_specs=out,
            # What is summed is summed by the function; JAX shall not infer it again.
            check_vma=False,
        )


def deal(batch: MoleculeBatch, devices: int) -> MoleculeBatch:
    """Deals the molecules of a batch to devices, in their order.

    Empty molecules fill up the last devices where there are too few. Pairs go where
    their atoms are and count the atoms of that device.

    Args:
        batch: Arrays of the whole batch.
        devices: How many to deal to.

    Returns:
        Arrays ``(devices, molecules a device, ...)`` and pairs ``(devices, pairs)``.
    """
    molecules, atoms = batch.atomic_numbers.shape
    each = -(-molecules // devices)
    missing = each * devices - molecules
    fields = {
        name: _filled(name, array, missing).reshape(devices, each, *array.shape[1:])
        for name, array in batch._asdict().items()
        if name not in _PAIR_FIELDS
    }
    return MoleculeBatch(**fields, **_dealt_pairs(batch, devices, each * atoms))


def _filled(name: str, array: np.ndarray, missing: int) -> np.ndarray:
    # Zero is padding everywhere; only the row of no molecule is -1.
    padding = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
    return np.pad(array, padding, constant_values=-1 if name == "molecule_index" else 0)


def _dealt_pairs(batch: MoleculeBatch, devices: int, atoms: int) -> dict[str, np.ndarray]:
    capacity = len(batch.pair_dst)
    count = np.count_nonzero(batch.pair_mask)  # pairs come first, ascending
    dst, src = batch.pair_dst[:count], batch.pair_src[:count]
    ends = np.searchsorted(dst, np.arange(devices + 1) * atoms)
    rooms = [math.ceil(times * capacity / devices) for times in _ROOMS if times < devices]
    # At worst, all pairs are on one device.
    room = next((room for room in rooms if room >= np.diff(ends).max()), capacity)
    parts = [
        pad_pairs(dst[a:b] - device * atoms, src[a:b] - device * atoms, room, atoms - 1)
        for device, (a, b) in enumerate(itertools.pairwise(ends))
    ]
    return {
        name: np.stack(arrays)
        for name, arrays in zip(_PAIR_FIELDS, zip(*parts, strict=True), strict=True)
    }
