"""What a prediction is: objects that check, draw and save themselves."""

from pixbox.results.categorization import Categorization
from pixbox.results.detections import Detections
from pixbox.results.saving import EXTRAS, extra_file
from pixbox.results.segmentation import Segmentation

Prediction = Segmentation | Detections | Categorization

__all__ = ["EXTRAS", "Categorization", "Detections", "Prediction", "Segmentation", "extra_file"]
