"""Words that follow a number."""

from __future__ import annotations


def counted(n: int, noun: str, verb: str = "") -> str:
    """Returns a number and what it counts, such as ``1 molecule`` or ``1,649 molecules``.

    Args:
        n: How many there are.
        noun: What they are, for one; its plural ends in s.
        verb: Verb that follows, for one and for many, such as ``has have``.
    """
    chosen = verb.split()[n != 1] if verb else ""
    return f"{n:,} {noun}{'s' if n != 1 else ''} {chosen}".rstrip()
