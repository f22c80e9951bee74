"""The folder of an experiment: configuration, checkpoints, metrics and the trained model."""
