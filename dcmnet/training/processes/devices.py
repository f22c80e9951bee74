"""Data-parallel training: the molecules of a batch dealt to the devices of all processes.

Each device works on molecules of its own, and what it leaves are sums, which are
added up across devices before anything is divided. So the result is that of one
device but for the rounding of the sums, whatever the number of devices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dcmnet.training.processes.agreement import Processes
from pipeline.loader import MoleculeBatch
from pipeline.loader.pairs import pad_pairs
from pipeline.loader.parts import Part, pair_room

AXIS = "device"
SUMMED = PartitionSpec()
BY_MOLECULE = PartitionSpec(AXIS)
_PAIR_FIELDS = ("pair_dst", "pair_src", "pair_mask")

_Tree = TypeVar("_Tree")


class Devices:
    """The devices that a run is spread over.

    Attributes:
        processes: The processes that they belong to, the same number to each.
        count: How many there are, of all processes.
    """

    def __init__(self, processes: Processes | None = None) -> None:
        """Takes the devices of all processes."""
        self.processes = processes or Processes()
        self.count = jax.device_count()
        self._mesh = Mesh(np.array(jax.devices()), (AXIS,))

    @property
    def part(self) -> Part:
        """What this process takes of every batch."""
        return Part(self.processes.index, self.processes.count, jax.local_device_count())

    def replicate(self, tree: _Tree) -> _Tree:
        """Returns a tree with a copy of every array, of the first process, on every device."""
        if self.count == 1:
            return tree
        if self.processes.count == 1:
            return jax.device_put(tree, NamedSharding(self._mesh, SUMMED))
        of_first = multihost_utils.broadcast_one_to_all(tree)
        copies: _Tree = multihost_utils.host_local_array_to_global_array(
            of_first, self._mesh, SUMMED
        )
        return copies

    def local(self, tree: _Tree) -> _Tree:
        """Returns a tree of what was replicated, on the first device of this process."""
        if self.count == 1:
            return tree
        return jax.tree.map(lambda array: array.addressable_data(0), tree)

    def fetch(self, tree: Any) -> Any:
        """Takes a tree from the devices; of what is dealt, the part of this process."""
        if self.processes.count == 1:
            return jax.device_get(tree)
        leaves, structure = jax.tree.flatten(tree)
        parts = jax.device_get([_parts(leaf) for leaf in leaves])
        return jax.tree.unflatten(
            structure, [np.concatenate(part) if len(part) > 1 else part[0] for part in parts]
        )

    def dealing(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function that deals its last argument, a batch, to the devices."""
        if self.count == 1:
            return function
        sharding = NamedSharding(self._mesh, BY_MOLECULE)

        def dealt(*arguments: Any) -> Any:
            *others, batch = arguments
            return function(*others, jax.device_put(deal(batch, self.count), sharding))

        def dealt_by_all(*arguments: Any) -> Any:
            *others, batch = arguments
            mine = deal(batch, self.part.devices)
            whole = [jax.make_array_from_process_local_data(sharding, field) for field in mine]
            return function(*others, MoleculeBatch(*whole))

        return dealt if self.processes.count == 1 else dealt_by_all

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
        Arrays ``(devices, molecules per device, ...)`` and pairs ``(devices, pairs)``.
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
    room = pair_room(capacity, devices, int(np.diff(ends).max()))
    parts = [
        pad_pairs(dst[a:b] - device * atoms, src[a:b] - device * atoms, room, atoms - 1)
        for device, (a, b) in enumerate(itertools.pairwise(ends))
    ]
    return {
        name: np.stack(arrays)
        for name, arrays in zip(_PAIR_FIELDS, zip(*parts, strict=True), strict=True)
    }


def _parts(array: jax.Array) -> list[jax.Array]:
    """Returns the parts of an array on this process's devices; one where all are the same."""
    if array.is_fully_replicated:
        return [array.addressable_data(0)]
    shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return [shard.data for shard in shards]
