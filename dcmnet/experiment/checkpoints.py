"""Checkpoints of a run (Orbax): asynchronous, atomic, refused by name when they do not fit.

Three series under ``checkpoints/``: ``latest/update_U`` keeps its newest,
``best/epoch_N`` the one before as well, ``epoch_N`` all. Each checkpoint has the items
``model`` (the parameters to predict with) and ``progress`` (JSON: epoch, iterator, best value,
running sums); the latest, from which a run is resumed, also ``training`` (what that needs
besides).
"""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Sharding, SingleDeviceSharding
from orbax.checkpoint import args as ocp_args

from dcmnet.experiment.state import Progress, TrainState
from dcmnet.model import Parameters
from store_schema.documents import validated
from store_schema.problems import CheckpointError

Series = Literal["latest", "best", "periodic"]
_T = TypeVar("_T")
_LISTINGS = 10
_ITEMS = ("model", "training", "progress")
# The best but one is that of the latest checkpoint, until the next of those is whole.
_KEPT: dict[Series, int | None] = {"latest": 1, "best": 2, "periodic": None}
_PREFIX: dict[Series, str] = {"latest": "update", "best": "epoch", "periodic": "epoch"}


class Checkpoints:
    """The checkpoints of one experiment; a context manager that waits for pending writes."""

    def __init__(self, directory: Path, read_only: bool = False) -> None:
        """Opens the checkpoints below a directory, which is made where it is missing."""
        self.directory = directory.resolve()
        if not read_only:
            for series, kept in _KEPT.items():
                if kept:
                    _remove_leftovers(self.directory / series, kept)
        self._managers = {
            series: _listed(partial(self._manager, series, read_only), directory)
            for series in _PREFIX
            if not read_only or series == "periodic" or (self.directory / series).is_dir()
        }

    def _manager(self, series: Series, read_only: bool) -> ocp.CheckpointManager:
        folder = self.directory if series == "periodic" else self.directory / series
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                multiprocessing_options=_of_this_process(),
                max_to_keep=_KEPT[series],
                step_prefix=_PREFIX[series],
                # What a killed run left half written; it only gets in the way.
                cleanup_tmp_directories=not read_only,
                create=False,
            ),
            item_names=_ITEMS,
        )

    def save(self, series: Series, step: int, state: TrainState, progress: Progress) -> None:
        """Starts writing a checkpoint; returns once the state has been copied.

        A step that the series has already is left as it is.
        """
        manager = self._managers[series]
        if step in manager.all_steps():
            return
        items: dict[str, ocp_args.CheckpointArgs] = {
            "model": ocp_args.StandardSave(state.ema_params),
            "progress": ocp_args.JsonSave(progress.model_dump(mode="json")),
        }
        if series == "latest":
            items["training"] = ocp_args.StandardSave(_training_part(state))
        manager.save(step, args=ocp_args.Composite(**items))

    def restore(self, like: TrainState) -> tuple[TrainState, Progress]:
        """Restores the latest checkpoint, whatever devices it was saved from.

        Args:
            like: A state of the same shapes, on the devices to restore to.

        Raises:
            CheckpointError: There is none, it is damaged, or it is of another model.
        """
        manager, step = self._find("latest")
        place = f"{self.directory}/latest, update {step}"
        abstract = _abstract(like)
        try:
            found = manager.restore(
                step,
                args=ocp_args.Composite(
                    model=ocp_args.StandardRestore(abstract.ema_params),
                    training=ocp_args.StandardRestore(_training_part(abstract)),
                    progress=ocp_args.JsonRestore(),
                ),
            )
        except Exception as error:  # Orbax raises many kinds for damage
            raise _damaged(place, error) from error
        training = found["training"]
        _check_shapes(place, (found["model"], training), (like.ema_params, _training_part(like)))
        state = TrainState(
            params=training["params"],
            ema_params=found["model"],
            optimizer_state=training["optimizer_state"],
            updates=training["updates"],
        )
        return state, _progress(place, found["progress"])

    def keep_until(self, epoch: int) -> None:
        """Removes those of later epochs, which a killed run left and a resumed one repeats."""
        for series in ("best", "periodic"):
            for step in self._steps(series):
                if step > epoch:
                    self._managers[series].delete(step)

    def restore_model(self, which: str, like: Parameters) -> tuple[Parameters, Progress]:
        """Restores the parameters to predict with, to the first device.

        Args:
            which: ``best``, ``latest`` or ``epoch_N``.
            like: Parameters of the same shapes; ``jax.ShapeDtypeStruct`` will do.

        Raises:
            CheckpointError: There is none, it is damaged, or it is of another model.
        """
        place = f"{self.directory}, checkpoint {which}"
        first = SingleDeviceSharding(jax.local_devices()[0])
        wanted = ocp_args.Composite(
            model=ocp_args.StandardRestore(_abstract(like, first)),
            progress=ocp_args.JsonRestore(),
        )
        while True:
            manager, step = self._find(which)
            try:
                found = manager.restore(step, args=wanted)
                break
            except Exception as error:  # Orbax raises many kinds for damage
                # A resumed run removes a checkpoint once there is a newer one.
                _listed(manager.reload, self.directory)
                if self._find(which)[1] == step:
                    raise _damaged(place, error) from error
        _check_shapes(place, found["model"], like)
        return found["model"], _progress(place, found["progress"])

    def names(self) -> list[str]:
        """Returns what can be restored: ``best``, ``latest`` and each ``epoch_N``."""
        names = [name for name in ("best", "latest") if self._steps(name)]
        return names + [f"epoch_{step}" for step in self._steps("periodic")]

    def _steps(self, series: str) -> list[int]:
        manager = self._managers.get(series)  # type: ignore[call-overload]
        return sorted(manager.all_steps()) if manager is not None else []

    def _find(self, which: str) -> tuple[ocp.CheckpointManager, int]:
        periodic = re.fullmatch(r"epoch_(\d+)", which)
        series: Series = "periodic" if periodic else which  # type: ignore[assignment]
        steps = self._steps(series)
        step = int(periodic.group(1)) if periodic else (steps[-1] if steps else -1)
        if step not in steps:
            raise CheckpointError.of(
                f"{self.directory}",
                wrong=f"there is no checkpoint {which!r}; there is "
                f"{', '.join(self.names()) or 'none at all'}",
                consequence="there are no parameters to resume from",
                remedy="Name one of those, or train first",
            )
        manager = self._managers[series]
        _refuse_special_files(Path(manager.directory) / f"{_PREFIX[series]}_{step}")
        return manager, step

    def wait(self) -> None:
        """Waits until everything saved so far is on disk."""
        for manager in self._managers.values():
            manager.wait_until_finished()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for manager in self._managers.values():
            manager.close()


def _of_this_process() -> ocp.options.MultiprocessingOptions:
    """Has Orbax wait for no other process: checkpoints are written and read by one."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    mine = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=mine, active_processes={mine}, barrier_sync_key_prefix=f"process{mine}"
    )


def _listed(read: Callable[[], _T], place: Path) -> _T:
    """Lists a folder; once more where a run has removed a checkpoint while it was looked at.

    Raises:
        CheckpointError: What describes a checkpoint is damaged.
    """
    for _ in range(_LISTINGS):
        try:
            return read()
        except FileNotFoundError as error:
            missing = error
        except Exception as error:  # Orbax raises many kinds for damage
            raise _damaged(str(place), error) from error
    raise missing


def _remove_leftovers(folder: Path, kept: int) -> None:
    """Removes all but the newest checkpoints: a kill may have cut the removal of one short."""
    steps = {
        int(found.group(1)): path
        for path in folder.glob("*")
        if (found := re.fullmatch(r"[a-z]+_(\d+)", path.name))
    }
    for step in sorted(steps)[:-kept]:
        shutil.rmtree(steps[step])


def _training_part(state: TrainState) -> dict[str, Any]:
    return {
        "params": state.params,
        "optimizer_state": state.optimizer_state,
        "updates": state.updates,
    }


def _abstract(tree: Any, sharding: Sharding | None = None) -> Any:
    if jax.process_count() > 1:
        # To the host: Orbax takes devices of one process for a mistake then.
        return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)
    # Without a sharding, Orbax asks for the devices that the checkpoint was saved from.
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding or leaf.sharding
        ),
        tree,
    )


def _check_shapes(place: str, found: Any, like: Any) -> None:
    # Orbax restores an array in the shape it was saved in, whatever it was asked for.
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(like), strict=True)
    differences = [
        f"{jax.tree_util.keystr(path)} of shape {leaf.shape}, not {wanted.shape}"
        for (path, leaf), wanted in pairs
        if leaf.shape != wanted.shape
    ]
    if differences:
        raise CheckpointError.of(
            place,
            wrong="its parameters are those of another network than in this experiment's "
            f"config.json ({'; '.join(differences[:4])})",
            consequence="nothing was restored",
            remedy="Restore config.json as it was when this checkpoint was saved",
        )


def _progress(place: str, fields: object) -> Progress:
    return validated(
        Progress,
        fields,
        f"{place}, progress",
        expected="where the run stood, as training wrote it",
        error=CheckpointError,
        consequence="nothing was restored",
        remedy="Restore the experiment's directory, or name another checkpoint",
    )


def _refuse_special_files(folder: Path) -> None:
    """Raises a CheckpointError for pipes and links in a checkpoint, which Orbax would wait for."""
    with suppress(FileNotFoundError):  # a run replaces it meanwhile, which restoring finds out
        for path in folder.rglob("*"):
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise CheckpointError.of(
                    str(path),
                    wrong="this is a link, a pipe or a device, not a regular file",
                    consequence="nothing was restored",
                    remedy="Restore the experiment's directory, or name another checkpoint",
                )


def _damaged(place: str, error: Exception) -> CheckpointError:
    first_line = next(iter(str(error).splitlines()), "")[:200]
    return CheckpointError.of(
        place,
        wrong="this is not a whole checkpoint of the network in this experiment's config.json: "
        f"{type(error).__name__}: {first_line}",
        consequence="nothing was restored",
        remedy="Restore the experiment's directory, or name another checkpoint",
    )
