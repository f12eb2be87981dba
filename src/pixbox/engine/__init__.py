"""Training: one adapter between a task and PyTorch Lightning, and what watches it."""
