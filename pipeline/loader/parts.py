"""What a process takes of every batch, so that batches are the same for any number of processes.

The molecules of a batch are dealt to the devices of all processes, in their order. A
process reads only its own; arrays have the same shape on each, as computations across
devices demand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int64

from pipeline.loader.batch import BatchShape

# Room for the pairs of a device, over an equal share of the batch's: steps fine enough
# to pad little, coarse enough that XLA compiles few shapes.
_ROOMS = (1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Part:
    """A process among those that share every batch.

    Attributes:
        index: Which it is.
        count: How many there are.
        devices: Devices of each, which its molecules are dealt to.
    """

    index: int = 0
    count: int = 1
    devices: int = 1

    def of(self, members: Int64[np.ndarray, "... B"]) -> Int64[np.ndarray, "... b"]:
        """Returns what this process takes of the places of batches."""
        return members[..., self.slots(members.shape[-1])]

    def slots(self, batch_size: int) -> slice:
        """Returns the places of a batch that are this process's."""
        each = batch_size // self.count
        return slice(self.index * each, (self.index + 1) * each)

    def shape(self, whole: BatchShape, n_pairs: Int64[np.ndarray, " B"]) -> BatchShape:
        """Returns the shape of this process's part, the same on each process.

        Args:
            whole: Shape of the batch.
            n_pairs: Pairs of the molecule at each place of the batch.
        """
        if self.count == 1:
            return whole
        most = int(n_pairs.reshape(self.count * self.devices, -1).sum(axis=1).max())
        room = pair_room(whole.pairs, self.count * self.devices, most)
        return whole._replace(molecules=whole.molecules // self.count, pairs=room * self.devices)


WHOLE: Final = Part()


def pair_room(capacity: int, devices: int, most: int) -> int:
    """Returns the room for pairs that each device has.

    Args:
        capacity: Pairs that the batch has room for.
        devices: Devices that it is dealt to.
        most: Pairs of the device that has the most.
    """
    rooms = [math.ceil(times * capacity / devices) for times in _ROOMS if times < devices]
    # At worst, all pairs are on one device.
    return next((room for room in rooms if room >= most), capacity)
