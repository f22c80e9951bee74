"""Sources before anything is written: a look at their molecules, and what their keys mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int

from pipeline.adapters import Block, Source, split_of
from pipeline.adapters.layout import Layout
from pipeline.chemistry.centers import ORIGIN
from pipeline.inference.declarations import Declarations
from pipeline.inference.interpretation import Interpretation
from pipeline.inference.physics import interpret
from store_schema.problems import AmbiguityError, SourceError

# Molecules that inference looks at: stretches all over the source, since neighbours often
# are displaced geometries of one molecule, and files often begin with what is small.
_SAMPLE: Final = 256
_STRETCH: Final = 16
# Atoms and points worked on at once, which bounds memory.
_BLOCK_ROWS: Final = 2**20
_BLOCK_MOLECULES: Final = (1, 1024)
# Chunks of a key that is kept as it was are whole molecules, and shards are written from
# memory: this makes half a GiB of a shard.
_MAX_KEPT_VALUES: Final = 2**18
# Pairs of atoms and points of a molecule, which are worked on at once: a GiB in float32.
# Few atoms count as so many, since their points alone fill memory, too.
_MAX_PAIRS: Final = 2**28
_FEW_ATOMS: Final = 64


@dataclass(frozen=True)
class Plan:
    """A source, understood.

    Attributes:
        source: The source.
        interpretation: What its keys mean.
        split: Set that its file names end in; empty if they do not.
    """

    source: Source
    interpretation: Interpretation
    split: str

    @property
    def block_molecules(self) -> int:
        """Molecules to work on at once."""
        least, most = _BLOCK_MOLECULES
        return max(least, min(most, _BLOCK_ROWS // _rows_a_molecule(self.source.layout)))


# Looks at the molecules of a source, and says what its keys mean.
Look = Callable[[Source, Declarations], Plan]


def make_plans(
    sources: Sequence[Source],
    declarations: Declarations,
    workers: int = 1,
    only: Sequence[str] = (),
) -> list[Plan]:
    """Settles what every source means; a question takes the answer of another file of its folder.

    Only of a file of the same keys in the same folder, such as another set, and only what
    its own molecules do not contradict.

    Args:
        sources: The sources.
        declarations: What the user declared.
        workers: Threads that look at sources at the same time: what is deflated has to be
            read to its end, which the interpreter does not wait for.
        only: Variables that are asked for; nothing is asked about others. All, if empty.

    Raises:
        AmbiguityError: A question is left.
        ConfigError: A declaration contradicts shape or physics.
    """
    look = partial(_plan, only=only)
    with ThreadPoolExecutor(workers) as pool:
        first = list(pool.map(lambda source: _or_question(look, source, declarations), sources))
    plans = {i: plan for i, plan in enumerate(first) if isinstance(plan, Plan)}
    questions = {i: error for i, error in enumerate(first) if isinstance(error, AmbiguityError)}
    settled = [*plans.values()]
    for index, question in questions.items():
        source = sources[index]
        for plan in settled:
            if _belong_together(source, plan.source):
                siblings = plan.interpretation.as_siblings(Path(plan.source.place).name)
                with suppress(AmbiguityError):
                    informed = replace(declarations, siblings=siblings)
                    plans[index] = look(source, informed)
                    break
        else:
            folder = [other for other in sources if _belong_together(source, other)]
            plans[index] = _plan_together(look, source, folder, declarations, question)
    return [_alike(look, plans[index], settled, declarations) for index in range(len(sources))]


def _plan_together(
    look: Look,
    source: Source,
    folder: Sequence[Source],
    declarations: Declarations,
    question: AmbiguityError,
) -> Plan:
    """Looks at files of the same keys together, if each leaves a question by itself.

    What their molecules say together is taken if those of the source do not contradict it.

    Raises:
        AmbiguityError: The question is left.
    """
    samples = [_sample(other) for other in folder]
    shapes = [{key: array.shape[1:] for key, array in s.columns.items()} for s in samples]
    if len(samples) < 2 or any(shape != shapes[0] for shape in shapes):
        raise question
    columns = {key: np.concatenate([s.columns[key] for s in samples]) for key in shapes[0]}
    try:
        together = interpret(source, Block(0, columns), declarations)
    except AmbiguityError:
        raise question from None
    siblings = together.as_siblings("the files beside it, all together")
    return look(source, replace(declarations, siblings=siblings))


def _alike(look: Look, plan: Plan, others: Sequence[Plan], declarations: Declarations) -> Plan:
    """Takes dipoles to be about the same point as in another file, where it showed."""
    for other in others:
        if other is not plan and _belong_together(plan.source, other.source):
            known = other.interpretation.as_siblings(Path(other.source.place).name)
            known = {key: sibling for key, sibling in known.items() if sibling.about != ORIGIN}
            if known:
                siblings = replace(declarations, siblings=known)
                return look(plan.source, siblings)
    return plan


def _belong_together(source: Source, other: Source) -> bool:
    return (
        source.columns.keys() == other.columns.keys()
        and source.files[0].parent == other.files[0].parent
    )


def _or_question(look: Look, source: Source, declarations: Declarations) -> Plan | AmbiguityError:
    try:
        return look(source, declarations)
    except AmbiguityError as error:
        return error


def _plan(source: Source, declarations: Declarations, only: Sequence[str] = ()) -> Plan:
    _check_widths(source)
    interpretation = interpret(source, _sample(source), declarations, only)
    return Plan(source, interpretation, split_of(source))


def _check_widths(source: Source) -> None:
    """Raises a SourceError for what is too wide to be worked on or stored, before it is read."""
    atoms, points = source.layout.max_atoms, source.layout.max_grid
    if max(_FEW_ATOMS, atoms) * max(atoms, points) > _MAX_PAIRS:
        raise SourceError.of(
            source.place,
            wrong=f"its arrays have room for {atoms} atoms and {points} points per molecule, "
            f"more than {_MAX_PAIRS} pairs of them",
            consequence="nothing was stored",
            remedy="Write fewer points, or cut the padding off",
        )
    for key, shape in source.layout.kept.items():
        if math.prod(shape) > _MAX_KEPT_VALUES:
            raise SourceError.of(
                f"{source.place}, {key}",
                wrong=f"it has {math.prod(shape)} values per molecule; under an unknown name at "
                f"most {_MAX_KEPT_VALUES} are kept",
                consequence="nothing was stored",
                remedy="Write the file again without this array",
            )


def _rows_a_molecule(layout: Layout) -> int:
    kept = sum(math.prod(shape) for shape in layout.kept.values())
    return layout.max_grid + 8 * layout.max_atoms + kept


def _sample(source: Source) -> Block:
    layout = source.layout
    most = max(_STRETCH, min(_SAMPLE, _BLOCK_ROWS // _rows_a_molecule(layout)))
    return source.sample(spread(layout.n_molecules, most))


def spread(n: int, most: int) -> Int[np.ndarray, " row"]:
    """Returns rows of stretches that lie evenly between the first molecule and the last."""
    if n <= most:
        return np.arange(n)
    starts = np.linspace(0, n - _STRETCH, most // _STRETCH).astype(int)
    return np.unique(starts[:, None] + np.arange(_STRETCH))
