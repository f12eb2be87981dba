"""How fast pixbox is beside the libraries that do the same: ``python -m benchmarks --help``."""
