"""An encoder with a linear layer on its last feature: what the encoders of the other tasks are pretrained with."""

from __future__ import annotations

from torch import Tensor, nn

from pixbox.networks.encoders import TimmEncoder
from pixbox.networks.network import Network


class Classifier(nn.Module):
    """Normalised pictures in, one logit a class out: the mean of the last feature over its area, and a linear layer.

    Args:
        encoder: its last feature counts.
        num_classes: at least 1.
        dropout: probability, before the linear layer.
    """

    def __init__(self, encoder: TimmEncoder, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(encoder.channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        last = self.encoder(x)[-1]
        logits: Tensor = self.output(self.dropout(last.mean(dim=(2, 3))))
        return logits


class ClassificationNetwork(Network):
    """A network for pictures of any size that names them."""

    body: Classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, N) of pictures (B, 3, H, W), RGB, 0..255, uint8 or float, H, W >= 1."""
        logits: Tensor = self.body(self._prepare(images))
        return logits
