"""Models in the box: weights that come with the package, and a card for each."""

from dcmnet.pretrained.box import (
    DEFAULT,
    is_pretrained,
    load_pretrained,
    pretrained_names,
    read_card,
)

__all__ = ["DEFAULT", "is_pretrained", "load_pretrained", "pretrained_names", "read_card"]
