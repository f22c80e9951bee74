"""What a process takes of every batch, so that batches are the same for any number of processes.

The molecules of a batch are dealt to the devices of all processes, in their order; where
they do not divide, empty places stand behind. A process reads only its own; arrays have
the same shape on each, as computations across devices demand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int64

from pipeline.loader.batch import BatchShape

# Room for the pairs of a device, over an equal share of the batch's. Molecules lie in a batch
# so that the first nearly always does; XLA compiles a shape for each that is needed.
_ROOMS = (1.0625, 1.25, 1.5, 2.0, 3.0)


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
        """Returns what this process takes of the places of batches, -1 for an empty one."""
        if self.count == 1:
            return members
        mine = self.slots(members.shape[-1])
        padding = [(0, 0)] * (members.ndim - 1) + [(0, mine.stop)]
        return np.pad(members, padding, constant_values=-1)[..., mine]

    def slots(self, batch_size: int) -> slice:
        """Returns the places of a batch that are this process's, past its end for empty ones."""
        each = self._molecules(batch_size)
        return slice(self.index * each, (self.index + 1) * each)

    def _molecules(self, batch_size: int) -> int:
        """Returns the places that each process takes, the same number for each device."""
        if self.count == 1:
            return batch_size
        return -(-batch_size // (self.count * self.devices)) * self.devices

    def shape(self, whole: BatchShape, n_pairs: Int64[np.ndarray, " B"]) -> BatchShape:
        """Returns the shape of this process's part, the same on each process.

        Args:
            whole: Shape of the batch.
            n_pairs: Pairs of the molecule at each place of the batch.
        """
        if self.count == 1:
            return whole
        molecules = self._molecules(whole.molecules)
        starts = np.arange(0, len(n_pairs), molecules // self.devices)
        most = int(np.add.reduceat(n_pairs, starts).max())
        room = pair_room(whole.pairs, self.count * self.devices, most)
        return whole._replace(molecules=molecules, pairs=room * self.devices)


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
