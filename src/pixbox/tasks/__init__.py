"""A task is a network, its loss, its metric and its decoding, in plain PyTorch."""
