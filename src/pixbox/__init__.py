"""pixbox: from a folder of labelled images to a model that labels pixels, finds objects or names pictures.

>>> import pixbox
>>> run = pixbox.train("recipes/camvid_unet.yaml", {"training.epochs": 80})
>>> model = pixbox.load(run.run)
>>> result = model.predict("street.png")
>>> result.save("out/")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pixbox.version import __version__

if TYPE_CHECKING:
    from pixbox.api import Model, compare, demo, evaluate, load, models, predict, schema, train
    from pixbox.config import Experiment, read_experiment
    from pixbox.errors import PixboxError
    from pixbox.labels import LabelMap
    from pixbox.results import Segmentation

_HOME = {
    "Audit": "auditing.result",
    "Categorization": "results",
    "Detections": "results",
    "Experiment": "config",
    "LabelMap": "labels",
    "Model": "api",
    "PixboxError": "errors",
    "Segmentation": "results",
    "audit": "api",
    "compare": "api",
    "convert": "api",
    "demo": "api",
    "evaluate": "api",
    "load": "api",
    "models": "api",
    "predict": "api",
    "read_experiment": "config",
    "schema": "api",
    "train": "api",
}

__all__ = [
    "Audit",
    "Categorization",
    "Detections",
    "Experiment",
    "LabelMap",
    "Model",
    "PixboxError",
    "Segmentation",
    "__version__",
    "audit",
    "compare",
    "convert",
    "demo",
    "evaluate",
    "load",
    "models",
    "predict",
    "read_experiment",
    "schema",
    "train",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    # Importing pixbox must stay cheap: each public name loads its home on first use.
    if name not in _HOME:
        raise AttributeError(f"module 'pixbox' has no attribute {name!r}")
    return getattr(import_module(f"pixbox.{_HOME[name]}"), name)
