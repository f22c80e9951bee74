"""DCM-Net: model, training, analysis and command line for distributed charges."""
