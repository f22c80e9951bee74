"""Analysis of trained networks: results in the store, comparisons, figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from dcmnet.analysis.comparison import Comparison, compare, compare_checkpoints
    from dcmnet.analysis.history import analyze_training_history, batch_analysis_summary
    from dcmnet.analysis.run import Analysis, analyze, analyze_checkpoint
    from dcmnet.analysis.statistics import Statistics, load_statistics
    from dcmnet.model import create_model

__all__ = [
    "Analysis",
    "Comparison",
    "Statistics",
    "analyze",
    "analyze_checkpoint",
    "analyze_training_history",
    "batch_analysis_summary",
    "compare",
    "compare_checkpoints",
    "create_model",
    "load_statistics",
]

# On first use: a figure of a training waits for no comparison.
_attribute, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "comparison": ["Comparison", "compare", "compare_checkpoints"],
        "history": ["analyze_training_history", "batch_analysis_summary"],
        "run": ["Analysis", "analyze", "analyze_checkpoint"],
        "statistics": ["Statistics", "load_statistics"],
    },
)


def __getattr__(name: str) -> object:
    if name == "create_model":  # of another package
        from dcmnet.model import create_model

        return create_model
    return _attribute(name)
