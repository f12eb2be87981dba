"""What a prediction is: objects that check, draw and save themselves."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pixbox.results.saving import EXTRAS, check_extras, extra_file, extras_of, needs_probabilities, tables

if TYPE_CHECKING:
    from pixbox.results.categorization import Categorization
    from pixbox.results.detections import Detections
    from pixbox.results.segmentation import Segmentation

    Prediction = Segmentation | Detections | Categorization

_HOME = {"Categorization": "categorization", "Detections": "detections", "Segmentation": "segmentation"}

__all__ = [
    "EXTRAS", "Categorization", "Detections", "Prediction", "Segmentation", "check_extras", "extra_file", "extras_of",
    "needs_probabilities", "tables",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # `pixbox --help` asks what can be saved, and must not wait for what draws and saves it.
    if name == "Prediction":
        return __getattr__("Segmentation") | __getattr__("Detections") | __getattr__("Categorization")
    if name not in _HOME:
        raise AttributeError(f"module 'pixbox.results' has no attribute {name!r}")
    return getattr(import_module(f"pixbox.results.{_HOME[name]}"), name)
