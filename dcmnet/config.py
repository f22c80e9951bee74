"""Configuration of a model and of an experiment: bounds, units, JSON both ways."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pipeline.files import write_text
from store_schema.documents import read_json as read_document
from store_schema.problems import ConfigError, Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_ConfigT = TypeVar("_ConfigT", bound=BaseModel)
Schedule = Literal["constant", "cosine", "exponential", "step"]
Tracker = Literal["mlflow", "wandb"]
ChargeSharing = Literal["equal", "softness"]
Optimizer = Literal["adam", "muon"]
EspLoss = Literal["mse", "rmse"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def updated(self, **fields: object) -> Self:
        """Returns a copy with fields replaced and everything validated again.

        Raises:
            ConfigError: Fields are unknown or out of bounds; all are listed.
        """
        return parse(type(self), {**self.model_dump(), **fields}) if fields else self


class ModelConfig(_Config):
    """The network.

    Attributes:
        features: Features of each degree and parity.
        max_degree: Highest degree of the features.
        num_iterations: Message passes.
        num_basis_functions: Radial basis functions.
        cutoff: Distance within which atoms exchange messages, angstrom.
        n_dcm: Charges per atom.
        include_pseudotensors: Whether inner message passes keep pseudotensors.
        displacement_scale: Scale of the charges' displacements, angstrom. The gate of the
            network bounds what multiplies it for small outputs only, as published.
        max_atomic_number: Largest atomic number it can embed.
        charge_sharing: How what the charges lack of the net charge is shared among the atoms:
            equally, as published, or by a softness of each atom that is learned.
    """

    features: int = Field(default=16, ge=1)
    max_degree: int = Field(default=2, ge=1)
    num_iterations: int = Field(default=2, ge=1)
    num_basis_functions: int = Field(default=16, ge=1)
    cutoff: float = Field(default=4.0, gt=0)
    n_dcm: int = Field(default=2, ge=1)
    include_pseudotensors: bool = True
    displacement_scale: float = Field(default=0.175, gt=0)
    max_atomic_number: int = Field(default=118, ge=1, le=118)
    charge_sharing: ChargeSharing = "equal"


class LossConfig(_Config):
    """What is learned.

    The loss of a molecule is the sum of its terms, each half the mean squared error
    times its weight: of the ESP over valid points ((hartree/e)^2), of the electric field
    over components at these points ((hartree/e/bohr)^2), of the monopoles over atoms
    (e^2), of the dipole over components ((e*angstrom)^2) and of the quadrupole, without its
    trace, over components ((e*angstrom^2)^2). An absent target adds nothing. With
    ``esp_loss`` of ``rmse`` the ESP counts by its root mean squared error times 1 kcal/mol/e,
    where both have the same slope: molecules of large errors, such as ions, no longer outweigh
    all others.

    Attributes:
        esp_loss: How the ESP's errors of a molecule count: by their mean square, as published,
            or by its root.
        esp_w: Weight of the ESP.
        field_w: Weight of the electric field on the grid.
        chg_w: Weight of the monopoles.
        dipole_w: Weight of the dipole.
        quadrupole_w: Weight of the quadrupole.
        min_vdw_factor: The loss leaves out points nearer to any atom than this times its van
            der Waals radius; none where None. Metrics are of all points always.
    """

    esp_loss: EspLoss = "mse"
    esp_w: float = Field(default=1e4, ge=0)
    field_w: float = Field(default=0.0, ge=0)
    chg_w: float = Field(default=1.0, ge=0)
    dipole_w: float = Field(default=0.0, ge=0)
    quadrupole_w: float = Field(default=0.0, ge=0)
    min_vdw_factor: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        weights = (self.esp_w, self.field_w, self.chg_w, self.dipole_w, self.quadrupole_w)
        if not any(weights):
            raise ValueError("all loss weights are 0, there is nothing to learn")
        return self


class TrainingConfig(LossConfig):
    """How a network is trained, and on which loss.

    Attributes:
        num_epochs: Passes over the training molecules.
        batch_size: Molecules of a (micro-)batch at most; those of an epoch are equal.
        gradient_accumulation_steps: Micro-batches summed before each update.
        optimizer: ``adam``, as published, or ``muon``, which moves matrices by orthogonal steps
            (Jordan et al., 2024) and all else by Adam; it takes a third of the epochs.
        learning_rate: Peak learning rate.
        weight_decay: Each update takes this, times the learning rate, of every parameter
            (decoupled from the gradient: Loshchilov & Hutter, arXiv 1711.05101).
        use_lr_schedule: Whether ``lr_schedule_type`` is in force; constant otherwise.
        lr_schedule_type: Shape of the decay after the warm-up.
        warmup_epochs: Epochs of linear rise from 0 to ``learning_rate``.
        min_lr_factor: Final learning rate as a fraction of ``learning_rate``.
        use_grad_clip: Whether gradients are clipped by their global norm.
        grad_clip_norm: That norm.
        use_ema: Whether an exponential moving average of the parameters is kept,
            validated and saved as the model.
        ema_decay: Its decay per update.
        grid_points: Random grid points per molecule and epoch; all where None.
        save_every_n_epochs: Epochs between periodic checkpoints; 0 for none.
        print_every_n_epochs: Epochs between printed tables; ``metrics.jsonl`` has all.
        summary_every_n_epochs: Epochs between TensorBoard's histograms and figures, which
            are ten seconds apart at least; the first and the last of ``num_epochs`` have them
            too; 0 for none. Its scalars are of every epoch.
        early_stopping_epochs: Epochs without improvement before stopping; None never.
        time_limit_minutes: Wall time after which the epoch is the last; None never.
        seed: Seed of the parameters and of the order of molecules.
    """

    num_epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=16, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    optimizer: Optimizer = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    use_lr_schedule: bool = True
    lr_schedule_type: Schedule = "cosine"
    warmup_epochs: int = Field(default=0, ge=0)
    min_lr_factor: float = Field(default=0.01, ge=0, le=1)
    use_grad_clip: bool = True
    grad_clip_norm: float = Field(default=2.0, gt=0)
    use_ema: bool = True
    ema_decay: float = Field(default=0.99, ge=0, lt=1)
    grid_points: int | None = Field(default=None, ge=1)
    save_every_n_epochs: int = Field(default=10, ge=0)
    print_every_n_epochs: int = Field(default=1, ge=1)
    summary_every_n_epochs: int = Field(default=10, ge=0)
    early_stopping_epochs: int | None = Field(default=None, ge=1)
    time_limit_minutes: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0)

    @property
    def loss(self) -> LossConfig:
        """The loss alone."""
        return LossConfig(**{name: getattr(self, name) for name in LossConfig.model_fields})

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_epochs >= self.num_epochs and self.num_epochs > 1:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be below num_epochs ({self.num_epochs})"
            )
        return self


class DataConfig(_Config):
    """Which molecules are trained on.

    Attributes:
        store: Path of the store. Its validation molecules decide which epoch is best.
        more_stores: Paths of others, whose batches are mixed in.
        ratio: Batches of each store, in proportion; as many of each where left out.
        train_fraction: Share of molecules to train on.
        valid_fraction: Share to validate on; what is left is the test split.
        num_train: At most so many training molecules of each store; all where None.
        num_valid: At most so many validation molecules of each; all where None.
    """

    store: str = ""
    more_stores: tuple[str, ...] = ()
    ratio: tuple[Annotated[float, Field(gt=0)], ...] = ()
    train_fraction: float = Field(default=0.8, gt=0, le=1)
    valid_fraction: float = Field(default=0.1, ge=0, lt=1)
    num_train: int | None = Field(default=None, ge=1)
    num_valid: int | None = Field(default=None, ge=1)

    @property
    def stores(self) -> tuple[str, ...]:
        """All stores, the first of which decides."""
        return (self.store, *self.more_stores)

    @property
    def split_fractions(self) -> tuple[float, float]:
        """Shares of train and valid."""
        return self.train_fraction, self.valid_fraction

    @model_validator(mode="after")
    def _fractions_fit(self) -> Self:
        if self.train_fraction + self.valid_fraction > 1.0 + 1e-9:
            raise ValueError("train_fraction and valid_fraction add up to more than 1")
        stores = len(self.stores)
        if self.ratio and len(self.ratio) != stores:
            raise ValueError(f"a ratio of {len(self.ratio)} numbers does not fit {stores} stores")
        return self


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", text):
        raise ValueError(
            f"{text!r} is no name of letters, digits, '.', '_' and '-' that begins with a letter "
            "or digit"
        )
    return text


# Of a folder.
Name = Annotated[str, AfterValidator(_name)]


def _text_of_path(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


class ExperimentConfig(_Config):
    """Everything needed to run an experiment again.

    Attributes:
        name: Name of the experiment and of its directory.
        out: Directory of all experiments.
        model: The network.
        training: The training.
        data: The molecules.
        init_from: Experiment, model in the box or published ``.pkl`` the parameters start from.
        track: Trackers that follow the run besides TensorBoard.
    """

    name: Name = "dcmnet"
    out: Annotated[str, BeforeValidator(_text_of_path)] = "experiments"
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    data: DataConfig = DataConfig()
    init_from: str | None = None
    track: tuple[Tracker, ...] = ()

    def with_fields(self, fields: Mapping[str, object]) -> ExperimentConfig:
        """Returns a copy with fields set by dotted or by short name.

        Args:
            fields: ``{"model.n_dcm": 2}`` or, where only one section has the field,
                ``{"n_dcm": 2}``. Text is read as JSON where it can be.

        Raises:
            ConfigError: Names are unknown or values out of bounds; all are listed,
                with the nearest names.
        """
        tree = self.model_dump()
        problems = []
        for name, value in fields.items():
            path = field_paths().get(name)
            if path is None:
                problems.append(_unknown_field(name, field_paths()))
                continue
            section = tree
            for step in path[:-1]:
                section = section[step]
            section[path[-1]] = _from_text(value, _annotation(path))
        if problems:
            raise ConfigError(problems)
        return parse(ExperimentConfig, tree)

    def save(self, path: Path) -> None:
        """Writes the configuration as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=2) + "\n")


def load_config(path: str | Path) -> ExperimentConfig:
    """Reads an experiment's configuration from a JSON file.

    Raises:
        ConfigError: The file is missing, not JSON, or holds wrong fields.
    """
    return parse(ExperimentConfig, read_json(path, "the config.json of an experiment"))


def read_json(path: str | Path, what: str) -> object:
    """Reads a JSON file.

    Args:
        path: The file.
        what: How messages name what it should be.

    Raises:
        ConfigError: The file is missing or not JSON.
    """
    try:
        return read_document(path)
    except (OSError, ValueError) as error:
        in_words = error.strerror if isinstance(error, OSError) else None
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise ConfigError.of(
            str(path),
            wrong=(
                "there is no such file"
                if missing
                else f"this is no JSON file, {what}: {in_words or error}"
            ),
            consequence="nothing was started",
            remedy=f"Check the path; give {what}, or one written like it",
        ) from error


def parse(kind: type[_ConfigT], fields: object, known: Collection[str] | None = None) -> _ConfigT:
    """Validates fields against a configuration model.

    Args:
        kind: The model.
        fields: What was found.
        known: Names to suggest for an unknown one; those of an experiment by default.

    Raises:
        ConfigError: All problems, each with the field's name.
    """
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        problems = []
        for entry in error.errors():
            name = ".".join(map(str, entry["loc"])) or kind.__name__
            if entry["type"] == "extra_forbidden":
                problems.append(_unknown_field(name, known or field_paths()))
            else:
                problems.append(
                    Problem(
                        place=f"configuration field {name}",
                        wrong=_wrong(entry),
                        consequence="nothing was started",
                        remedy="Correct the value",
                    )
                )
        raise ConfigError(problems) from error


def _wrong(entry: ErrorDetails) -> str:
    """Returns what pydantic found, and what it asks for instead."""
    kind, about = entry["type"], entry.get("ctx", {})
    if kind == "missing":
        return "it has no value"
    if kind == "union_tag_not_found":
        return f"it has no {about['discriminator']}"
    if kind == "union_tag_invalid":
        return f"its {about['discriminator']} is {about['tag']!r}, not {about['expected_tags']}"
    if kind == "value_error":
        return entry["msg"].removeprefix("Value error, ")
    message = entry["msg"].removeprefix("Input should be ").removeprefix("String should ")
    given = "this" if isinstance(entry["input"], dict) else repr(entry["input"])[:80]
    return f"{given} is not {message.replace('match pattern', 'text that matches')}"


def field_paths() -> dict[str, tuple[str, ...]]:
    """Returns where in ``ExperimentConfig`` each field is, by its dotted and its short name."""
    paths: dict[str, tuple[str, ...]] = {}
    for name, field in ExperimentConfig.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, _Config):
            for inner in section.model_fields:
                paths[f"{name}.{inner}"] = paths[inner] = (name, inner)
        else:
            paths[name] = (name,)
    return paths


def _annotation(path: tuple[str, ...]) -> Any:
    annotation: Any = ExperimentConfig
    for step in path:
        annotation = annotation.model_fields[step].annotation
    return annotation


def _unknown_field(name: str, known: Collection[str]) -> Problem:
    near = [
        *difflib.get_close_matches(name, known, n=3, cutoff=0.5),
        *difflib.get_close_matches(name.rpartition(".")[2], known, n=1, cutoff=0.6),
    ]
    near = list(dict.fromkeys(near))[:3]
    return Problem(
        place=f"configuration field {name!r}",
        wrong="there is no field of this name",
        consequence="nothing was started",
        remedy=f"Did you mean {' or '.join(near)}?" if near else f"Fields: {', '.join(known)}",
    )


def _from_text(value: object, annotation: Any) -> object:
    if not isinstance(value, str) or annotation is str:
        return value
    try:
        found = json.loads(value)
    except ValueError:
        return value
    # Text is allowed besides null: only null is not meant as text.
    return value if str in get_args(annotation) and found is not None else found
