"""One convention of files each, behind one Protocol."""

from pipeline.adapters.columns import Block, Column
from pipeline.adapters.discover import discover, split_of
from pipeline.adapters.protocol import Source

__all__ = ["Block", "Column", "Source", "discover", "split_of"]
