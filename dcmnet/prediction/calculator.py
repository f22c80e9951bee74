"""A model as an ASE calculator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import numpy.typing as npt
from ase.calculators.calculator import Calculator, all_changes
from jaxtyping import Float

from dcmnet.model.molecule import Structure
from dcmnet.model.trained import TrainedModel
from dcmnet.prediction.charges import ChargedMolecule
from dcmnet.prediction.derivatives import ChargeDerivatives, charge_derivatives
from dcmnet.prediction.inputs import InMemory
from dcmnet.prediction.predict import Predictor
from dcmnet.prediction.run import load_mixture
from pipeline.structures import net_charge
from store_schema.problems import ConfigError


class DCMCalculator(Calculator):
    """Charges, dipole and ESP of ``ase.Atoms`` from a model.

    ``atoms.get_charges()`` are the sums of each atom's charges in e,
    ``atoms.get_dipole_moment()`` is the dipole about the origin in e*angstrom. A distributed
    charge model has no energy and no forces: ASE says so when it is asked for them, unless
    another calculator brings them, as ASE's molecular dynamics and ``Infrared`` need.

    The net charge is ``total_charge``, or else ``atoms.info["charge"]``, or else the sum of the
    atoms' initial charges, or else 0. The last two must not differ.
    """

    implemented_properties: list[str] = ["charges", "dipole"]  # noqa: RUF012 - as ASE has it

    def __init__(
        self,
        model: str | Path | TrainedModel,
        *,
        others: Sequence[str] = (),
        checkpoint: str = "best",
        total_charge: float | None = None,
        strict: bool = False,
        forces: Calculator | None = None,
        **parameters: Any,
    ) -> None:
        """Loads the model.

        Args:
            model: An experiment, a published ``.pkl``, or a model.
            others: Models of some elements or atoms; see ``load_mixture``.
            checkpoint: ``best``, ``latest`` or ``epoch_N``.
            total_charge: Net charge, e.
            strict: Refuse molecules beyond the training, or whose error to expect is beyond
                what tests back.
            forces: A calculator that energy and forces are taken from.
            **parameters: As of any ASE calculator.

        Raises:
            CheckpointError: There is no such checkpoint, or it does not fit.
            ConfigError: An option means nothing.
        """
        super().__init__(**parameters)
        self._predictor = Predictor(load_mixture(model, others, checkpoint), strict=strict)
        self._total_charge = total_charge
        self._forces = forces
        if forces is not None:
            self.implemented_properties = [*self.implemented_properties, "energy", "forces"]
        self._molecule: ChargedMolecule | None = None

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("charges",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Predicts the charges of the atoms; called by ASE.

        Raises:
            SourceError: They cannot be predicted.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        structures = InMemory((self._structure(self.atoms),), place="atoms")
        survey = self._predictor.survey(structures)
        for warning in survey.warnings:
            warnings.warn(warning, stacklevel=2)
        (self._molecule,) = self._predictor.run(structures, survey)
        self.results = {"charges": self._molecule.monopoles, "dipole": self._molecule.dipole}
        if self._forces is not None and {"energy", "forces"} & {*properties}:
            for name in ("energy", "forces"):
                self.results[name] = self._forces.get_property(name, self.atoms)

    def get_distributed_charges(self, atoms: ase.Atoms | None = None) -> ChargedMolecule:
        """Returns the distributed charges with their positions.

        Args:
            atoms: The molecule; the one calculated last by default.

        Raises:
            SourceError: It cannot be predicted.
        """
        self.get_property("charges", atoms)
        assert self._molecule is not None
        return self._molecule

    def get_esp(
        self, points: npt.ArrayLike, atoms: ase.Atoms | None = None
    ) -> Float[np.ndarray, " g"]:
        """Returns the electrostatic potential at points, in hartree/e.

        Args:
            points: Places (g, 3) in angstrom, outside the molecule.
            atoms: The molecule; the one calculated last by default.

        Raises:
            SourceError: It cannot be predicted.
        """
        return self.get_distributed_charges(atoms).esp(np.asarray(points, np.float64))

    def get_charge_derivatives(self, atoms: ase.Atoms | None = None) -> ChargeDerivatives:
        """Returns how charges, dipole and ESP change with the positions of the atoms.

        Args:
            atoms: The molecule; the one calculated last by default.

        Raises:
            SourceError: It cannot be predicted.
            ConfigError: Several models give the atoms their charges.
        """
        molecule = self.get_distributed_charges(atoms)
        models = self._predictor.mixture.models
        if len(models) > 1:
            raise ConfigError.of(
                "derivatives of charges",
                wrong=f"there are {len(models)} models; charges of one can be derived",
                consequence="they were not calculated",
                remedy="Leave 'others' out",
            )
        return charge_derivatives(models[0], molecule.structure)

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """Returns what has changed since the last calculation; the net charge in info counts.

        Args:
            atoms: The molecule as it is.
            tol: Tolerance of positions, angstrom.
        """
        changes: list[str] = super().check_state(atoms, tol=tol)
        molecule = self._molecule
        if molecule is not None and molecule.structure.total_charge != self._charge(atoms)[0]:
            changes.append("total_charge")
        return changes

    def _charge(self, atoms: ase.Atoms) -> tuple[float, bool]:
        given = self._total_charge
        found = net_charge(atoms, "atoms") if given is None else given
        return (0.0, False) if found is None else (found, True)

    def _structure(self, atoms: ase.Atoms) -> Structure:
        charge, given = self._charge(atoms)
        return Structure(
            place="atoms",
            name=str(atoms.symbols),
            atomic_numbers=atoms.numbers.astype(np.int64),
            positions=atoms.positions.astype(np.float64),
            total_charge=charge,
            charge_given=given,
            periodic=bool(atoms.pbc.any()),
        )
