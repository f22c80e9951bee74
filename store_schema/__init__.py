"""The contract of the store: names, units, meanings and the validated schema.

No file I/O and no numerics beyond unit factors; imports nothing of the other
packages.
"""

from store_schema.dataset import SCHEMA_VERSION, StoreSchema
from store_schema.names import VARIABLES, Variable
from store_schema.problems import DcmError, Problem
from store_schema.provenance import KeyRecord, SourceFile, SourceRecord
from store_schema.results import RESULT_VARIABLES, ResultsSchema
from store_schema.semantics import SEMANTICS

__all__ = [
    "RESULT_VARIABLES",
    "SCHEMA_VERSION",
    "SEMANTICS",
    "VARIABLES",
    "DcmError",
    "KeyRecord",
    "Problem",
    "ResultsSchema",
    "SourceFile",
    "SourceRecord",
    "StoreSchema",
    "Variable",
]
