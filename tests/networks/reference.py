"""Torchvision's RetinaNets with weights that are random and yet show every mistake."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models.detection import RetinaNet as TorchvisionRetinaNet


def alive(model: TorchvisionRetinaNet) -> TorchvisionRetinaNet:
    """With the statistics of its activations and weights that differ, so that a wrong one shows."""
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
            if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
                module.weight.uniform_(0.5, 1.5, generator=source)
                module.bias.uniform_(-0.2, 0.2, generator=source)
        model.train()
        model.backbone(torch.randn(2, 3, 128, 160, generator=source))
    return outspoken(model.eval(), source)


@torch.no_grad()
def outspoken(model: TorchvisionRetinaNet, source: torch.Generator) -> TorchvisionRetinaNet:
    """With answers that differ from anchor to anchor."""
    for module in model.head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, generator=source)
    answers = model.head(list(model.backbone(torch.randn(1, 3, 128, 160, generator=source)).values()))
    # Sure answers would be rounded to equal scores.
    model.head.classification_head.cls_logits.weight *= 0.7 / answers["cls_logits"].abs().max()
    model.head.classification_head.cls_logits.bias.uniform_(-4, -2, generator=source)
    model.head.regression_head.bbox_reg.weight *= 0.1 / answers["bbox_regression"].abs().max()
    return model
