"""SMILES of small molecules and ions that QM9 lacks: sulphur, chlorine, and charges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement, product
from typing import Final

from rdkit import Chem, rdBase
from rdkit.Chem import rdChemReactions

from recipes.held_out import is_held_out

# Each may follow a linker, and in reverse may lead one.
_GROUPS: Final = (
    *("C", "N", "O", "F", "S", "Cl", "C#N", "C=O", "C(=O)O", "C(=O)N", "C=C", "C#C", "C1CC1"),
    *("C1CO1", "OC", "NC", "SC", "N(C)C", "N=O", "[N+](=O)[O-]", "C(F)(F)F", "C(F)F", "CCl"),
    *("S(C)(=O)=O", "S(=O)(=O)N", "S(=O)C", "C(C)=O", "OC=O", "NC=O", "C(=O)OC", "C(=N)N", "SS"),
    *("C(=O)Cl", "C(=O)S", "C(=S)N", "N=C=O", "N=C=S", "C(Cl)Cl", "C(C)C", "ON", "NN", "OO"),
    *("c1ccccc1", "c1ccncc1", "c1ccco1", "c1cccs1", "c1ccc[nH]1", "c1c[nH]cn1", "c1cscn1"),
)
_LINKERS: Final = ("", "C", "CC", "CCC", "C(C)", "C(N)", "C(O)", "C=C", "CO", "CN", "CS")
_RINGS: Final = (
    *("c1cc({0})ccc1{1}", "c1c({0})cncc1{1}", "c1c({0})oc({1})c1", "c1c({0})sc({1})c1"),
    *("C1CC({0})CC1{1}", "C1CN({0})CCO1", "c1nc({0})nc({1})n1", "O=c1ccn({0})c(=O)[nH]1"),
    *("C1CCN({0})CC1{1}", "c1cc({0})nn1C{1}", "C1CSC({0})C1{1}", "Clc1ccc({0})cc1{1}"),
)
_SINGLE: Final = (
    *("O", "N", "S", "C", "F", "Cl", "C#N", "O=C=O", "O=C=S", "S=C=S", "O=S=O", "FF", "ClCl"),
    *("[H][H]", "N#N", "[C-]#[O+]", "O=C=NC", "[N-]=[N+]=NC", "[N-]=[N+]=C", "CN=[N+]=[N-]"),
    *("[F-]", "[Cl-]", "[OH-]", "[SH-]", "[C-]#N", "[N-]=[N+]=[N-]", "[NH4+]", "[OH3+]"),
    *("O=[N+]([O-])[O-]", "[S-]C#N", "[O-]C#N", "OS(=O)(=O)[O-]", "[O-]Cl=O", "C[N+](C)(C)C"),
    *("C=[OH+]", "CC=[OH+]", "CC(C)=[OH+]", "NC=[OH+]", "OC=[OH+]", "N[NH3+]", "O[NH3+]"),
    *("C[S+](C)C", "NC(N)=[NH2+]", "O=N[O-]", "OC(=O)[O-]", "[O-]S(=O)O", "C[n+]1cc[nH]c1"),
)
# What gives or takes a proton under conditions that chemists meet.
_PROTONATION: Final = (
    "[NX3;!$(N-[C,S,N]=[O,S,N]);!$(N-c);!$(N-[O,N,F,S,Cl]);+0:1]>>[N+:1]",
    "[nX2;+0:1]>>[nH+:1]",
    "[NX2;+0;$(N=C);!$(N~[O,N]):1]>>[N+:1]",
    "[OX2H1;$(O-[CX4]):1]>>[O+:1]",
    "[OX2;$(O(-[CX4])-[CX4]):1]>>[O+:1]",
)
_DEPROTONATION: Final = (
    "[OX2H1;$(O-[C,S,c]):1]>>[O-;H0:1]",
    "[SX2H1;$(S-[C,c]):1]>>[S-;H0:1]",
    "[NX3;H2,H1;$(N-[C,S]=O):1]>>[N-:1]",
    "[nH;+0:1]>>[n-;H0:1]",
    "[CX2H1;$(C#C):1]>>[C-;H0:1]",
    "[CX4;H3,H2;$(C-[N+](=O)[O-]),$(C(-C=O)-C=O):1]>>[C-:1]",
)
# Oxygen and hydrogen as their heavier relatives.
_HEAVIER: Final = (
    "[OX2H1;$(O-C):1]>>[S;H1:1]",
    "[OX2H0;$(O(-[#6])-[#6]):1]>>[S:1]",
    "[F;$(F-[#6]):1]>>[Cl:1]",
    "[OX1;$(O=[CX3](N)):1]>>[S:1]",
    "[CH3;$(C-[#6]):1]>>[Cl;H0:1]",
)


def fragments() -> Iterator[str]:
    """Returns neutral molecules of two groups and what is between them, none held out."""
    yield from _distinct(_joined())


def ions(parents: Iterable[str]) -> Iterator[str]:
    """Returns ions of charge -1 and +1, none held out.

    Args:
        parents: SMILES of molecules that give or take a proton.
    """
    yield from (
        smiles for smiles in _distinct(_SINGLE) if Chem.GetFormalCharge(Chem.MolFromSmiles(smiles))
    )
    yield from _distinct(_changed(parents, (*_PROTONATION, *_DEPROTONATION)), charges=(-1, 1))


def heavier(parents: Iterable[str]) -> Iterator[str]:
    """Returns molecules with sulphur for oxygen or chlorine for fluorine, none held out."""
    yield from _distinct(_changed(parents, _HEAVIER))


def _joined() -> Iterator[str]:
    yield from _SINGLE
    for left, right in combinations_with_replacement(_GROUPS, 2):
        for linker in _LINKERS:
            backwards = Chem.MolFromSmiles(left)
            head = Chem.MolToSmiles(backwards, rootedAtAtom=0, canonical=False)
            yield f"{_closing(right)}{linker}{head}" if not linker else f"C({head}){linker}{right}"
            yield f"{linker}{right}" if linker else right
    for ring, left, right in product(_RINGS, ("C", *_GROUPS[:24]), ("", *_GROUPS[:12])):
        yield ring.format(left, right)


def _closing(group: str) -> str:
    """A group written so that what follows is bound to its first atom."""
    molecule = Chem.MolFromSmiles(group)
    others = Chem.MolToSmiles(molecule, rootedAtAtom=0, canonical=False)
    return f"C({others})"


def _changed(parents: Iterable[str], reactions: Iterable[str]) -> Iterator[str]:
    changes = [rdChemReactions.ReactionFromSmarts(reaction) for reaction in reactions]
    for smiles in parents:
        molecule = Chem.MolFromSmiles(smiles)
        for change in changes:
            for (product_,) in change.RunReactants((molecule,)):
                yield Chem.MolToSmiles(product_)


def _distinct(every: Iterable[str], charges: tuple[int, ...] = (-1, 0, 1)) -> Iterator[str]:
    """Canonical SMILES of sound closed-shell molecules, once each, none held out."""
    rdBase.DisableLog("rdApp.*")
    seen = set()
    for smiles in every:
        molecule = Chem.MolFromSmiles(smiles)
        if molecule is None or Chem.GetFormalCharge(molecule) not in charges:
            continue
        if any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
            continue
        canonical = Chem.MolToSmiles(molecule)
        if canonical not in seen and not is_held_out(canonical):
            seen.add(canonical)
            yield canonical
