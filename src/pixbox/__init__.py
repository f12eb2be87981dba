"""pixbox: from a folder of labelled images to a model that labels pixels."""

__version__ = "0.1.0"
