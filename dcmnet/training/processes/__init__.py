"""Training on several devices and processes: starting, agreeing and checkpointing together."""
