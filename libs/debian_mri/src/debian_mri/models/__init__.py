"""Models: the MRI model and its branches, class texts, calibration, selective prediction and checkpoints."""
