"""Analysis of trained networks: results in the store, comparisons, figures."""

from dcmnet.analysis.analyze import Analysis, analyze
from dcmnet.analysis.compare import Comparison, compare, compare_checkpoints
from dcmnet.analysis.history import analyze_training_history, batch_analysis_summary
from dcmnet.analysis.statistics import Statistics, load_statistics
from dcmnet.model import create_model

analyze_checkpoint = analyze

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
