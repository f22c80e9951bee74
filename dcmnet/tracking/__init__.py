"""Trackers of experiments: TensorBoard always, MLflow and Weights & Biases where asked for."""
