"""Training, validation and test molecules, by a hash of each molecule's identity.

A hash makes the split a property of the molecule: it does not depend on the
order of the store, and molecules that are appended later move no other. What is
hashed is a group, so that conformers of one molecule stay together. Only where there are
fewer than ten molecules, whose conformers would fill no three splits, each geometry is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import zarr
from jaxtyping import Bool, Float32, Float64, Int, Shaped, UInt8

from pipeline.store.base import Store, StoreLike
from store_schema import StoreSchema
from store_schema.names import MOLECULE
from store_schema.problems import ConfigError, StoreError

SPLITS: Final = ("train", "valid", "test")
SPLIT_VARIABLE: Final = "split"
BY_ID: Final = "id"
BY_FORMULA: Final = "formula"
BY_GEOMETRY: Final = "geometry"
# Fewer groups may well leave a split without any: a tenth of them is less than one.
_FEW_GROUPS: Final = 10

_SPELLINGS: Final = {
    **{name: code for code, name in enumerate(SPLITS)},
    **{"training": 0, "val": 1, "validation": 1, "testing": 2},
}
# Molecules whose values are read at once: some shards.
_READ: Final = 2**16


@dataclass(frozen=True)
class Splits:
    """The split of every molecule of a store.

    Attributes:
        codes: Place of each molecule's split in `SPLITS`; one byte per molecule.
        evidence: How they were made, in words.
    """

    codes: UInt8[np.ndarray, " molecule"]
    evidence: str

    @property
    def labels(self) -> Shaped[np.ndarray, " molecule"]:
        """Name of each molecule's split."""
        return np.array(SPLITS)[self.codes]

    @property
    def counts(self) -> dict[str, int]:
        """Molecules of each split."""
        return {name: int(self.mask(name).sum()) for name in SPLITS}

    def mask(self, split: str) -> Bool[np.ndarray, " molecule"]:
        """Returns which molecules belong to a split; ``all`` are those of every one.

        Raises:
            ConfigError: There is no split of that name.
        """
        if split == "all":
            return np.ones(len(self.codes), bool)
        if split not in SPLITS:
            raise ConfigError.of(
                "split",
                wrong=f"{split!r} is not one of {', '.join(SPLITS)} or all",
                consequence="no molecules are chosen",
                remedy="Name one of these",
            )
        return np.asarray(self.codes == SPLITS.index(split))


def split_store(
    store: StoreLike, fractions: Sequence[float] = (0.8, 0.1), group_by: str = BY_ID
) -> Splits:
    """Splits the molecules of a store.

    A variable ``split`` of the store, which its files brought, is taken as it is.

    Args:
        store: The store, or its path or URL.
        fractions: Shares of train and valid; the rest is test.
        group_by: What stays together: ``id`` (the part of the molecule's id before its
            last slash; ids are SMILES/conformer), ``formula``, ``geometry`` (nothing stays
            together), or a variable of the store with one value per molecule. Conformers of
            fewer than ten ids are split by geometry.

    Raises:
        ConfigError: Fractions are not shares, or there is nothing of that name to group by.
        StoreError: There is no store, or its ``split`` holds other names.
    """
    store = Store.at(store)
    schema = store.schema()
    if SPLIT_VARIABLE in schema.variables:
        return Splits(_existing(store, schema), f"variable {SPLIT_VARIABLE!r} of the store")
    _check_fractions(fractions)
    codes, hashed = _hashed(store, schema.model_dump_json(), group_by, tuple(fractions))
    shares = ", ".join(f"{share:g}" for share in fractions)
    return Splits(codes, f"hash of the {hashed}, shares {shares} and the rest")


def conformers_are_split(store: StoreLike) -> bool:
    """Returns whether conformers of a molecule are split, as there are few molecules.

    Raises:
        StoreError: There is no store.
    """
    store = Store.at(store)
    schema = store.schema()
    return SPLIT_VARIABLE not in schema.variables and _are_few(store, schema)


def assign(groups: Iterable[str], fractions: Sequence[float]) -> Shaped[np.ndarray, " molecule"]:
    """Returns the split of each group: a function of its name and the fractions alone.

    Args:
        groups: Name of each molecule's group.
        fractions: Shares of train and valid.
    """
    return np.array(SPLITS)[_codes(groups, fractions)]


def uniform_hashes(names: Iterable[str]) -> Float64[np.ndarray, " name"]:
    """Returns a number of [0, 1) for each name, uniform over names."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    # 53 bits are what a float64 holds below 1.
    return (np.frombuffer(digests, ">u8") >> np.uint64(11)) / 2.0**53


def identities(store: Store, schema: StoreSchema) -> Iterator[list[str]]:
    """Yields names of the molecules, many at a time: their ids, or rows where they have none."""
    start = 0
    for ids in _values(store, "molecule_id", schema):
        yield [str(name) or f"row {row}" for row, name in enumerate(ids, start)]
        start += len(ids)


def formulas(atomic_numbers: Int[np.ndarray, "molecule atom"]) -> list[str]:
    """Returns a name of each composition: how many atoms of which element."""
    Z = np.asarray(atomic_numbers)
    elements = [int(z) for z in np.unique(Z) if z > 0]
    counts = np.stack([np.count_nonzero(z == Z, axis=1) for z in elements], axis=1)
    return [
        " ".join(f"{z}:{n}" for z, n in zip(elements, row, strict=True) if n)
        for row in counts.tolist()
    ]


def _codes(groups: Iterable[str], fractions: Sequence[float]) -> UInt8[np.ndarray, " name"]:
    edges = np.cumsum(np.asarray(fractions, float))
    return np.searchsorted(edges, uniform_hashes(groups), side="right").astype(np.uint8)


# Training and validation ask one after the other for the same split.
@lru_cache(maxsize=2)
def _hashed(
    store: Store, schema_json: str, group_by: str, fractions: tuple[float, ...]
) -> tuple[UInt8[np.ndarray, " molecule"], str]:
    """Splits of the molecules, and what was hashed."""
    schema = StoreSchema.model_validate_json(schema_json)
    if group_by == BY_ID and _are_few(store, schema):
        group_by = BY_GEOMETRY
    groups = _groups(store, schema, group_by)
    codes = np.concatenate([np.zeros(0, np.uint8), *(_codes(some, fractions) for some in groups)])
    codes.setflags(write=False)
    return codes, group_by


def _are_few(store: Store, schema: StoreSchema) -> bool:
    """Whether there are several geometries of fewer than ten molecules."""
    found: set[str] = set()
    for groups in _groups(store, schema, BY_ID):
        found.update(groups)
        if len(found) >= _FEW_GROUPS:
            return False
    return len(found) < schema.n_molecules


def _groups(store: Store, schema: StoreSchema, group_by: str) -> Iterator[Iterable[str]]:
    """Yields the names of the molecules' groups, many at a time: no name outlives its hash."""
    if group_by == BY_ID:
        for names in identities(store, schema):
            yield (name.rpartition("/")[0] or name for name in names)
        return
    if group_by == BY_GEOMETRY:
        places = _values(store, "positions", schema)
        for names, some in zip(identities(store, schema), places, strict=True):
            yield map(_geometry, names, some)
        return
    if group_by == BY_FORMULA:
        yield from map(formulas, _values(store, "atomic_numbers", schema))
        return
    if group_by not in schema.variables:
        raise _cannot_group(group_by, "what is no variable of the store")
    for values in _values(store, group_by, schema):
        if values.ndim != 1:
            raise _cannot_group(group_by, f"a variable of {values.ndim} dimensions")
        yield map(str, values.tolist())


def _geometry(name: str, positions: Float32[np.ndarray, "atom 3"]) -> str:
    """A name of one geometry, the same in a store with room for more atoms."""
    return f"{name} {positions[np.isfinite(positions)].tobytes().hex()}"


def _existing(store: Store, schema: StoreSchema) -> UInt8[np.ndarray, " molecule"]:
    codes, unknown = [np.zeros(0, np.uint8)], set[str]()
    for values in _values(store, SPLIT_VARIABLE, schema):
        names = [str(name).strip().lower() for name in values]
        unknown |= set(names) - _SPELLINGS.keys()
        codes.append(np.array([_SPELLINGS.get(name, 0) for name in names], np.uint8))
    if unknown:
        raise StoreError.of(
            f"{store}, {SPLIT_VARIABLE}",
            wrong=f"{', '.join(map(repr, sorted(unknown)[:5]))} is not one of "
            f"{', '.join(_SPELLINGS)}",
            consequence="these molecules belong to no split",
            remedy="Rename them in the source, or rename its key to have molecules split by hash",
        )
    return np.concatenate(codes)


def _values(store: Store, name: str, schema: StoreSchema) -> Iterator[np.ndarray]:
    # zarr-python reads text, which TensorStore does not.
    array = store.group()[name]
    if not isinstance(array, zarr.Array):
        raise TypeError(f"{name} of {store} is a group, along {MOLECULE} an array is needed")
    for start in range(0, schema.n_molecules, _READ):
        with store.reading():
            values = np.asarray(array[start : min(start + _READ, schema.n_molecules)])
        yield values


def _check_fractions(fractions: Sequence[float]) -> None:
    if len(fractions) != 2 or min(fractions) < 0 or sum(fractions) > 1 + 1e-9:
        raise ConfigError.of(
            "split fractions",
            wrong=f"{tuple(fractions)} are not shares of train and valid, of 1 together at most",
            consequence="molecules cannot be split",
            remedy="Give two such as 0.8 and 0.1; the rest is test",
        )


def _cannot_group(group_by: str, received: str) -> ConfigError:
    return ConfigError.of(
        f"group_by={group_by!r}",
        wrong=f"{received} cannot group molecules; {BY_ID}, {BY_FORMULA}, {BY_GEOMETRY} or a "
        "variable with one value per molecule can",
        consequence="it is not known which molecules belong together",
        remedy="Name another",
    )
