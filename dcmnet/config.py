"""Configuration of a model and of an experiment: bounds, units, JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from dcmnet.config_fields import (
    Config,
    Name,
    annotation_of,
    field_paths,
    from_text,
    parse,
    read_json,
    unknown_field,
)
from pipeline.files import write_text
from store_schema.problems import ConfigError

Schedule = Literal["constant", "cosine", "exponential", "step"]
Tracker = Literal["mlflow", "wandb"]
ChargeSharing = Literal["equal", "softness"]
Optimizer = Literal["adam", "muon"]
EspLoss = Literal["mse", "rmse"]


class ModelConfig(Config):
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


class LossConfig(Config):
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


class DataConfig(Config):
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


def _text_of_path(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


class ExperimentConfig(Config):
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
        tree, known = self.model_dump(), field_paths(ExperimentConfig)
        problems = []
        for name, value in fields.items():
            path = known.get(name)
            if path is None:
                problems.append(unknown_field(name, known))
                continue
            section = tree
            for step in path[:-1]:
                section = section[step]
            section[path[-1]] = from_text(value, annotation_of(ExperimentConfig, path))
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
