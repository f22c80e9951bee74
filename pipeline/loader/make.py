"""`make_loader`: from a store and a few wishes to a loader."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from pipeline.loader.batch import FIELDS, STRUCTURE_FIELDS, BatchShape
from pipeline.loader.buffer import empty_fields
from pipeline.loader.dataset import BatchDataset, BatchOptions, buffer_widths
from pipeline.loader.parts import WHOLE, Part
from pipeline.loader.plan import LoaderPlan
from pipeline.loader.reader import BLOCK_MOLECULES, StoreReader, slots_needed
from pipeline.loader.scan import count_store_pairs
from pipeline.loader.shapes import (
    MAX_SHAPES,
    MoleculeSizes,
    choose_shapes,
    equal_batches,
    most_pairs_of_a_batch,
)
from pipeline.store.base import StoreLike
from pipeline.store.splits import BY_ID, identities, split_store, uniform_hashes
from store_schema.problems import ConfigError, Problem

# For molecules in memory, by default. At 25 kB per molecule 10,000 are shuffled together,
# or 20,000 where that is all there are.
MEMORY_BYTES = 512 * 2**20
# Molecules per batch; more would not fit any memory.
_MOST = 2**20


def make_loader(
    store: StoreLike,
    *,
    batch_size: int = 16,
    split: str = "train",
    seed: int = 0,
    num_epochs: int | None = 1,
    start_epoch: int = 0,
    cutoff: float = 4.0,
    shuffle: bool = True,
    fields: Sequence[str] | None = None,
    shard: tuple[int, int] = (0, 1),
    part: Part = WHOLE,
    preload: bool = False,
    grid_points: int | None = None,
    rotate: bool = False,
    split_fractions: Sequence[float] = (0.8, 0.1),
    group_by: str = BY_ID,
    molecules: Int[np.ndarray, " n"] | Sequence[int] | None = None,
    max_molecules: int | None = None,
    shapes: Sequence[BatchShape] | None = None,
    max_shapes: int = MAX_SHAPES,
    passes: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    prefetch: int = 2,
) -> BatchDataset:
    """Makes the loader of a store: padded batches of like-sized molecules, streamed.

    Every molecule comes exactly once per epoch; the last batch is filled up with empty
    ones. The order is a function of the seed and the epoch. At most eight shapes occur,
    chosen from the molecules of this loader.

    Args:
        store: The store, or its path or URL.
        batch_size: Molecules per batch at most. An epoch has as few batches as that allows,
            all of the same number of molecules, B: 100 molecules are two batches of 50,
            not one of 64 and one of 36.
        split: ``train``, ``valid``, ``test`` or ``all``.
        seed: Seed of the order, of chosen points and of rotations.
        num_epochs: Epochs to iterate over; None for no end.
        start_epoch: First of them.
        cutoff: Distance in Å below which two atoms are a pair.
        shuffle: False keeps the order of the store between windows, for evaluation.
        fields: Variables to read besides atomic numbers and positions; all that a batch
            holds by default. Those the store lacks are marked as missing.
        shard: This process and how many there are; each has its own molecules, and all
            have the same number of batches and the same shape at each step. The batches
            of an epoch depend on how many there are.
        part: What this process takes of every batch of its shard. Together, processes have
            the same batches for any number of them; each reads chunks for its part.
        preload: Keep all molecules of this loader in memory; they are read once.
        grid_points: K, points chosen at random of each molecule and epoch.
        rotate: Turn every molecule at random, each time it comes.
        split_fractions: Shares of train and valid; the rest is test.
        group_by: What a split keeps together; see ``split_store``.
        molecules: Rows to take of the split; all by default.
        max_molecules: Take no more than so many, chosen by a hash of their identity.
        shapes: Padded sizes to use, such as another loader's; chosen by default. Batches
            are of their number of molecules.
        max_shapes: Shapes that are chosen at most. Each is compiled once; more waste less.
            The last is for the batches of the most pairs, and rarely needed.
        passes: How often the molecules are gone through in all, which decides how many
            shapes are worth compiling; ``num_epochs`` by default, 1 if that is None.
        memory_bytes: Memory for molecules: two windows, or one that holds all there are.
        prefetch: Batches that a thread makes ahead; 0 for none.

    Returns:
        A Grain dataset of `MoleculeBatch`. Its iterators have `get_state` and
        `set_state`, exact at any batch.

    Raises:
        ConfigError: An argument is not what this documents.
        StoreError: The store cannot be read.
    """
    wanted = FIELDS if fields is None else (*STRUCTURE_FIELDS, *fields)
    _check(
        batch_size,
        shard,
        part,
        wanted,
        grid_points=grid_points,
        cutoff=cutoff,
        max_shapes=max_shapes,
        passes=passes,
    )
    reader = StoreReader(store, [name for name in FIELDS if name in wanted])
    all_sizes = _sizes(reader, cutoff, grid_points)
    chosen = _of_split(reader, split, split_fractions, group_by)
    if molecules is not None:
        chosen &= np.isin(all_sizes.rows, np.asarray(molecules))
    sizes = all_sizes.select(_limit(reader, chosen, max_molecules))
    if shapes is None:
        equal = equal_batches(-(-len(sizes.rows) // shard[1]), batch_size)
        shapes = choose_shapes(sizes, equal, max_shapes, passes or num_epochs or 1)
    _check_shapes(sizes, shapes, batch_size)
    window = _window_steps(reader, sizes, shapes, memory_bytes, shard[1])
    plan = LoaderPlan(
        sizes=sizes,
        shapes=shapes,
        batch_size=shapes[0].molecules if shapes else batch_size,
        block_size=BLOCK_MOLECULES,
        window_steps=len(sizes.rows) if preload else window,
        n_shards=shard[1],
        shuffle=shuffle,
        seed=seed,
    )
    end = None if num_epochs is None else start_epoch + num_epochs
    options = BatchOptions(
        cutoff, shard[0], (start_epoch, end), grid_points, rotate, prefetch, part
    )
    return BatchDataset(reader, plan, options)


def _sizes(reader: StoreReader, cutoff: float, grid_points: int | None) -> MoleculeSizes:
    """Returns the sizes of all molecules of a store, as its batches have them."""
    n = reader.schema.n_molecules
    return MoleculeSizes(
        # A store of many has sizes enough to keep.
        rows=np.arange(n, dtype=np.int32 if n <= np.iinfo(np.int32).max else np.int64),
        n_atoms=reader.n_atoms,
        n_grid=reader.n_grid if grid_points is None else np.minimum(reader.n_grid, grid_points),
        n_pairs=count_store_pairs(reader.store, reader.schema, cutoff),
    )


def _of_split(
    reader: StoreReader, split: str, fractions: Sequence[float], group_by: str
) -> Bool[np.ndarray, " n"]:
    """Says which molecules of a store are in a split."""
    if split == "all":
        return np.ones(reader.schema.n_molecules, bool)
    return split_store(reader.store, fractions, group_by).mask(split)


def _limit(
    reader: StoreReader, chosen: Bool[np.ndarray, " n"], most: int | None
) -> Bool[np.ndarray, " n"]:
    """Takes no more molecules than wanted: the same always, from all over the store."""
    if most is None or int(chosen.sum()) <= most:
        return chosen
    names = identities(reader.store, reader.schema)
    hashes = np.concatenate([uniform_hashes(some) for some in names])
    rows = np.flatnonzero(chosen)
    first = rows[np.argsort(hashes[rows], kind="stable")[:most]]
    return np.isin(np.arange(len(chosen)), first)


def _window_steps(
    reader: StoreReader,
    sizes: MoleculeSizes,
    shapes: Sequence[BatchShape],
    memory_bytes: int,
    n_shards: int,
) -> int:
    """Returns how many batches a window holds, at least one.

    Molecules that fit as a whole are one window, which is read once; otherwise the
    memory is for two. Only a single process has the same molecules in every epoch.
    """
    if not len(sizes.rows):
        return 1
    one = empty_fields(reader.fields, 1, *buffer_widths(reader, shapes))
    bytes_of_slot = sum(field.nbytes for field in one.values())
    all_bytes = bytes_of_slot * slots_needed(sizes.rows)
    if n_shards == 1 and all_bytes <= memory_bytes:
        return len(sizes.rows)
    batch_bytes = all_bytes / len(sizes.rows) * shapes[0].molecules
    return max(1, int(memory_bytes / 2 / batch_bytes))


def _check(
    batch_size: int,
    shard: tuple[int, int],
    part: Part,
    wanted: Sequence[str],
    *,
    grid_points: int | None,
    cutoff: float,
    max_shapes: int,
    passes: int | None,
) -> None:
    """Refuses arguments that mean nothing; all problems at once."""
    index, count = shard
    unknown = [name for name in wanted if name not in FIELDS]
    found = [
        (not 1 <= batch_size <= _MOST, "batch_size", f"1 to {_MOST:,}", batch_size),
        (not 0 <= part.index < part.count, "part", "an index below the count", part),
        (not 0 <= index < count, "shard", "(index, count) with 0 <= index < count", shard),
        (grid_points is not None and grid_points < 1, "grid_points", "1 or more", grid_points),
        (not 0 < cutoff < math.inf, "cutoff", "a finite distance above 0", cutoff),
        (max_shapes < 1, "max_shapes", "1 or more", max_shapes),
        (passes is not None and passes < 1, "passes", "1 or more", passes),
        (bool(unknown), "fields", f"names of {', '.join(FIELDS)}", unknown),
    ]
    problems = [
        Problem(
            place=f"make_loader, {name}",
            wrong=f"{received} is not {expected}",
            consequence="no batches can be made",
            remedy="Give another value",
        )
        for wrong, name, expected, received in found
        if wrong
    ]
    if problems:
        raise ConfigError(problems)


def _check_shapes(sizes: MoleculeSizes, shapes: Sequence[BatchShape], batch_size: int) -> None:
    """Refuses given shapes that some batch would not fit into."""
    if not len(sizes.rows):
        return
    B = shapes[0].molecules if shapes else batch_size
    needed = (
        B,
        int(sizes.n_atoms.max()),
        int(sizes.n_grid.max()),
        most_pairs_of_a_batch(sizes.n_pairs, B),
    )
    largest = tuple(max(side) for side in zip(*shapes, strict=True)) if shapes else (0, 0, 0, 0)
    ascending = bool(np.all(np.diff(np.array(shapes), axis=0) >= 0))
    same = all(shape.molecules == B <= batch_size for shape in shapes)
    if not (ascending and same and all(np.array(largest) >= needed)):
        raise ConfigError.of(
            "make_loader, shapes",
            wrong=f"{[tuple(shape) for shape in shapes]} are not ascending shapes of one number "
            f"of molecules, at most {batch_size}, the last at least {needed}",
            consequence="atoms, points or pairs would be cut off",
            remedy="Leave it out to have shapes chosen, or give those of a loader of this store",
        )
