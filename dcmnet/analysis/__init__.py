"""Analysis of trained networks: results in the store, comparisons, figures."""

from dcmnet.analysis.analyze import Analysis, analyze
from dcmnet.analysis.compare import (
    analyze_training_history,
    batch_analysis_summary,
    compare_checkpoints,
)
from dcmnet.model import create_model

analyze_checkpoint = analyze

__all__ = [
    "Analysis",
    "analyze",
    "analyze_checkpoint",
    "analyze_training_history",
    "batch_analysis_summary",
    "compare_checkpoints",
    "create_model",
]
