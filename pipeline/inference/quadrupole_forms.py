"""The forms that quadrupoles come in: orders of six components, and conventions."""

from __future__ import annotations

from typing import Final, NamedTuple

from store_schema.semantics import QUADRUPOLE_COMPONENTS

Order = tuple[int, ...]

COMPONENTS: Final = "quadrupole_components"
QUADRUPOLES: Final = (COMPONENTS, "quadrupole_tensor")
_NAMES: Final = tuple("xyz"[i] + "xyz"[j] for i, j in QUADRUPOLE_COMPONENTS)


class Form(NamedTuple):
    """A way to write quadrupoles.

    Attributes:
        order: Names of the six components as they follow each other; empty for tensors.
        convention: One of ``CONVENTIONS``.
        seldom: How seldom it is met, as a negative logarithm.
    """

    order: str
    convention: str
    seldom: float

    @property
    def scale(self) -> float:
        """Factor to the moment of the charge, or to its traceless part."""
        return CONVENTIONS[self.convention][0]

    @property
    def text(self) -> str:
        """What messages say of it; nothing where it is that of the store."""
        order = self.order.replace(",", " ")
        parts = [f"in the order {order} "] if self.order not in ("", STORED) else []
        if self.convention == "buckingham":
            parts.append("as Buckingham's 3/2 of the traceless tensor ")
        return "".join(parts)


# Factors, and how seldom each is met, as a negative logarithm. A. D. Buckingham, Q. Rev. Chem. Soc.
# 13 (1959) 183, has 3/2 of the traceless part of Σ q r r; GAMESS, Molpro and xtb write that.
CONVENTIONS: Final = {"plain": (1.0, 0.0), "buckingham": (2 / 3, 2.0)}
# The upper triangle by rows, the order of Gaussian, the lower triangle by rows, and Voigt's.
STORED: Final = ",".join(_NAMES)
_ORDERS: Final = {
    STORED: 0.0,
    "xx,yy,zz,xy,xz,yz": 0.0,
    "xx,xy,yy,xz,yz,zz": 3.0,
    "xx,yy,zz,yz,xz,xy": 3.0,
}


def is_order(text: str) -> bool:
    """Whether a text names six components, each once."""
    return sorted(_plain(text)) == sorted(_NAMES)


def columns_of(order: str) -> Order:
    """Columns of components in the order of the store; empty where they are in it."""
    names = _plain(order)
    return () if not order or names == list(_NAMES) else tuple(names.index(n) for n in _NAMES)


def name_of(columns: Order) -> str:
    """Names components as they follow each other in a file, from the columns of each."""
    if not columns:
        return STORED
    return ",".join(name for _, name in sorted(zip(columns, _NAMES, strict=True)))


def forms(semantics: str, order: str | None, convention: str | None) -> list[Form]:
    """Returns the forms that values may have.

    Args:
        semantics: ``quadrupole_components`` or ``quadrupole_tensor``.
        order: As declared; None if not.
        convention: As declared; None if not.
    """
    orders = _ORDERS if order is None else {",".join(_plain(order)): 0.0}
    if semantics != COMPONENTS:
        orders = {"": 0.0}
    return [
        Form(name, kind, rare + (0.0 if convention else seldom))
        for name, rare in orders.items()
        for kind, (_, seldom) in CONVENTIONS.items()
        if convention in (None, kind)
    ]


def _plain(order: str) -> list[str]:
    """Names of components, each as in the upper triangle."""
    return ["".join(sorted(name.strip().lower())) for name in order.split(",")]
