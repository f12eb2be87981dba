"""Losses of pixels.

Targets are (B, H, W) uint8 class indices or ``labels.IGNORE``; logits are (B, N, H, W) of any float type and
are computed with in float32 at least.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixbox.errors import ConfigError, DataError, Fault, did_you_mean
from pixbox.labels import IGNORE

_LEAST_ROW = 16
"""Classes from which on the numbers of a pixel that lie one behind the other are worked on as a row."""


class SegmentationLoss(nn.Module):
    """A loss of one or more terms. Sub-classes give ``weights`` and ``sums``."""

    def weights(self, target: Tensor) -> Tensor:
        """(T,) float32, >= 0: what the sum of each term is divided by. Depends on the (B, H, W) targets only."""
        raise NotImplementedError

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        """(T,) float32 (float64 for float64 logits): each term summed over the batch, differentiable."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of one batch on its own, a scalar; 0 with zero gradients where nothing is labelled."""
        return weighted_total(self.sums(logits, target), self.weights(target))


def weighted_total(sums: Tensor, weights: Tensor) -> Tensor:
    """Scalar: the sum over terms of ``sums / weights``, both (T,); a term of weight 0 counts 0."""
    counts = weights > 0
    return torch.where(counts, sums / torch.where(counts, weights, 1.0), 0.0).sum()


class CrossEntropy(SegmentationLoss):
    """Minus the logarithm of the true class's softmax probability, averaged over labelled pixels.

    With class weights the average is a weighted one (the divisor is the sum of the labelled pixels' weights).
    ``label_smoothing`` e in [0, 1) gives every class e / N of the truth. Both as ``torch.nn.CrossEntropyLoss``.

    Source: label smoothing, Szegedy et al. 2016, Rethinking the Inception architecture, section 7.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.label_smoothing = label_smoothing

    def weights(self, target: Tensor) -> Tensor:
        return _pixel_weight(target, self.class_weights)

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = _log_softmax(logits)
        total = _surprise(log_p, target, self.class_weights).sum()
        if self.label_smoothing > 0:
            weighted = log_p if self.class_weights is None else log_p * self.class_weights.to(log_p)[:, None, None]
            everywhere = -weighted.mean(dim=1)
            spread = torch.where(target != IGNORE, everywhere, 0.0).sum()
            total = (1 - self.label_smoothing) * total + self.label_smoothing * spread
        return total.unsqueeze(0)


class PixelBinary(SegmentationLoss):
    """One yes-or-no question per class and pixel (sigmoid), summed over classes, averaged over labelled pixels."""

    def weights(self, target: Tensor) -> Tensor:
        return _pixel_weight(target, None)

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        logits = logits.to(_compute_dtype(logits))
        labelled = target != IGNORE
        true_class = target.masked_fill(~labelled, 0).long().unsqueeze(1)
        # -log(sigmoid(x)) = softplus(x) - x and -log(1 - sigmoid(x)) = softplus(x): no one-hot truth is needed.
        per_pixel = F.softplus(logits).sum(dim=1) - logits.gather(1, true_class).squeeze(1)
        return torch.where(labelled, per_pixel, 0.0).sum().unsqueeze(0)


class Dice(SegmentationLoss):
    """One minus the soft Dice coefficient 2 sum(p y) / (sum(p) + sum(y)) of softmax probabilities.

    Per picture, averaged over the classes that its truth holds; then averaged over pictures with a labelled pixel.

    Source: Drozdzal et al. 2016, The importance of skip connections in biomedical image segmentation; one term
    per class as in Sudre et al. 2017, Generalised Dice overlap.
    """

    def weights(self, target: Tensor) -> Tensor:
        return _labelled_pictures(target)

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        # (B, pixels, N), without a copy in either layout; nothing else has as many numbers.
        p = _softmax(logits).permute(0, 2, 3, 1).flatten(1, 2)
        labelled = (target != IGNORE).flatten(1)
        true_class = target.flatten(1).long().masked_fill(~labelled, 0)
        true_area = torch.zeros(p.shape[0], p.shape[2], dtype=torch.int64, device=p.device)
        true_area = true_area.scatter_add(1, true_class, labelled.long())
        # Added up in float64: one by one, a large picture's would lose digits.
        of_truth = p.gather(2, true_class.unsqueeze(2)).squeeze(2).double() * labelled
        overlap = torch.zeros_like(true_area, dtype=torch.float64).scatter_add(1, true_class, of_truth).to(p.dtype)
        # Autocast would compute this product in half precision.
        with torch.autocast(p.device.type, enabled=False):
            predicted_area = torch.bmm(labelled.unsqueeze(1).to(p.dtype), p).squeeze(1)
        # A class that is present has an area of at least one pixel, so the bound moves only terms that are dropped.
        dice = 2 * overlap / (predicted_area + true_area).clamp_min(1)
        present = true_area > 0
        per_picture = torch.where(present, 1 - dice, 0.0).sum(dim=1) / present.sum(dim=1).clamp_min(1)
        return per_picture.sum().unsqueeze(0)


class CrossEntropyDice(SegmentationLoss):
    """Cross-entropy (averaged over pixels) plus ``dice_weight`` times Dice (averaged over pictures): two terms."""

    def __init__(
        self, class_weights: Tensor | None = None, label_smoothing: float = 0.0, dice_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.cross_entropy = CrossEntropy(class_weights, label_smoothing)
        self.dice = Dice()
        self.dice_weight = dice_weight

    def weights(self, target: Tensor) -> Tensor:
        return torch.cat([self.cross_entropy.weights(target), self.dice.weights(target)])

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        dice = self.dice_weight * self.dice.sums(logits, target)
        return torch.cat([self.cross_entropy.sums(logits, target), dice])


class Focal(SegmentationLoss):
    """Softmax cross-entropy times (1 - p) ** gamma, p the true class's probability, averaged like ``CrossEntropy``.

    ``gamma`` >= 0; 0 is cross-entropy.

    Source: Lin et al. 2017, Focal loss for dense object detection, eqs. 4 and 5, with several classes.
    """

    class_weights: Tensor | None

    def __init__(self, gamma: float = 2.0, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights)
        self.gamma = gamma

    def weights(self, target: Tensor) -> Tensor:
        return _pixel_weight(target, self.class_weights)

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        log_p = _log_softmax(logits)
        surprise = _surprise(log_p, target, None)
        # A sure pixel (1 - p = 0) would have an infinite slope where gamma < 1.
        doubt = (-torch.expm1(-surprise)).clamp_min(torch.finfo(log_p.dtype).tiny)
        if self.class_weights is not None:
            surprise = _surprise(log_p, target, self.class_weights)
        return (doubt**self.gamma * surprise).sum().unsqueeze(0)


class Lovasz(SegmentationLoss):
    """Lovasz-softmax: the convex extension of one minus the intersection over union.

    Per picture, averaged over the classes that its truth holds; then averaged over pictures with a labelled pixel.

    Source: Berman et al. 2018, The Lovasz-softmax loss, eqs. 8, 9 and 11.
    """

    def weights(self, target: Tensor) -> Tensor:
        return _labelled_pictures(target)

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        p = _softmax(logits)
        pictures = [_lovasz_of_picture(*picture) for picture in zip(p.flatten(2), target.flatten(1), strict=True)]
        return torch.stack(pictures).sum().unsqueeze(0)


class Ohem(SegmentationLoss):
    """Cross-entropy of a picture's hard pixels only, averaged over them; then over pictures with a labelled pixel.

    Hard are pixels whose true class has a probability below ``threshold``, and in any case the share ``min_kept``
    (0-1, rounded up, at least one pixel) of labelled pixels with the highest loss; equal losses are kept together.

    Source: Wu et al. 2016, High-performance semantic segmentation using very deep fully convolutional networks
    (online bootstrapping), after Shrivastava et al. 2016, online hard example mining.
    """

    def __init__(self, threshold: float = 0.7, min_kept: float = 0.1) -> None:
        super().__init__()
        self.threshold = threshold
        self.min_kept = min_kept

    def weights(self, target: Tensor) -> Tensor:
        return _labelled_pictures(target)

    def sums(self, logits: Tensor, target: Tensor) -> Tensor:
        surprise = _surprise(_log_softmax(logits), target, None).flatten(1)
        kept = self._hard(surprise.detach(), (target != IGNORE).flatten(1))
        per_picture = (surprise * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1)
        return per_picture.sum().unsqueeze(0)

    def _hard(self, surprise: Tensor, labelled: Tensor) -> Tensor:
        """(B, P) bool, from (B, P) cross-entropy of each pixel and whether it is labelled."""
        least = (labelled.sum(dim=1, keepdim=True) * self.min_kept).ceil().long().clamp_min(1)
        # An ignored pixel's loss is 0, so none ranks before a labelled one.
        ranked = surprise.sort(dim=1, descending=True).values
        among_hardest = surprise >= ranked.gather(1, least - 1)
        return labelled & (among_hardest | (torch.exp(-surprise) < self.threshold))


LOSSES: dict[str, type[SegmentationLoss]] = {
    "cross_entropy": CrossEntropy,
    "binary": PixelBinary,
    "dice": Dice,
    "cross_entropy_dice": CrossEntropyDice,
    "focal": Focal,
    "lovasz": Lovasz,
    "ohem": Ohem,
}
"""Name in a configuration -> loss."""


def build_loss(
    name: str,
    *,
    class_weights: Tensor | None,
    label_smoothing: float,
    gamma: float,
    dice_weight: float,
    ohem_threshold: float,
    ohem_min_kept: float,
) -> SegmentationLoss:
    """The loss of that name, with those settings that it has.

    ``class_weights`` is (N,) float or None. ``gamma``, ``dice_weight`` and the two of OHEM concern one loss each
    and are not used by others.

    Raises:
        ConfigError: an unknown name; class weights or label smoothing for a loss that has none.
    """
    if name not in LOSSES:
        raise ConfigError(f'loss.name: "{name}" is not known', hint=did_you_mean(name, LOSSES))
    given = {
        "class_weights": class_weights, "label_smoothing": label_smoothing, "gamma": gamma,
        "dice_weight": dice_weight, "threshold": ohem_threshold, "min_kept": ohem_min_kept,
    }  # fmt: skip
    taken = _settings_of(name)
    asked = {"class_weights": class_weights is not None, "label_smoothing": label_smoothing > 0}
    faults = [_without_effect(setting, name) for setting in asked if asked[setting] and setting not in taken]
    if faults:
        raise ConfigError(faults)
    return LOSSES[name](**{setting: value for setting, value in given.items() if setting in taken})


def class_weights_from_counts(
    method: Literal["median_frequency", "enet", "inverse"], pixels: Tensor, pixels_of_images_with_class: Tensor
) -> Tensor:
    """A weight for each class, larger the rarer it is, from the training masks.

    ``pixels`` (N,) int64 counts the pixels of each class. ``pixels_of_images_with_class`` (N,) int64 counts all
    pixels, ignored ones too, of the pictures that hold the class; ``median_frequency`` alone uses it.

    ``median_frequency``: median of f over f, f = pixels / pixels of images with the class.
    ``enet``: 1 / ln(1.02 + share of the labelled pixels).
    ``inverse``: labelled pixels / (classes that occur * pixels), so that all classes weigh the same in sum.

    Returns (N,) float32. A class without a pixel weighs 0 and is no part of the median.

    Raises:
        DataError: no class has a pixel.

    Source: Eigen and Fergus 2015, Predicting depth, surface normals and semantic labels;
    Paszke et al. 2016, ENet.
    """
    occurs = pixels > 0
    if not bool(occurs.any()):
        raise DataError("the training masks hold no labelled pixel, so no class weight can be computed")
    count = pixels[occurs].double()
    if method == "median_frequency":
        frequency = count / pixels_of_images_with_class[occurs]
        found = frequency.quantile(0.5) / frequency
    elif method == "enet":
        found = 1 / torch.log(1.02 + count / count.sum())
    else:
        found = count.sum() / (len(count) * count)
    weights = torch.zeros(len(pixels), dtype=torch.float32, device=pixels.device)
    weights[occurs] = found.float()
    return weights


def _settings_of(name: str) -> Collection[str]:
    return inspect.signature(LOSSES[name]).parameters.keys()


def _without_effect(setting: str, name: str) -> Fault:
    neutral = {"class_weights": "none", "label_smoothing": "0"}[setting]
    able = ", ".join(known for known in LOSSES if setting in _settings_of(known))
    return Fault(
        "", f"loss.{setting} has no effect with `loss.name: {name}`", f"Set it to {neutral}, or choose one of: {able}."
    )


def _compute_dtype(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _log_softmax(logits: Tensor) -> Tensor:
    # With `dtype` the conversion happens inside: no float32 copy of half-precision logits on a GPU.
    if _lies_in_rows(logits):
        return F.log_softmax(logits.permute(0, 2, 3, 1), dim=3, dtype=_compute_dtype(logits)).permute(0, 3, 1, 2)
    return F.log_softmax(logits, dim=1, dtype=_compute_dtype(logits))


def _softmax(logits: Tensor) -> Tensor:
    if _lies_in_rows(logits):
        return F.softmax(logits.permute(0, 2, 3, 1), dim=3, dtype=_compute_dtype(logits)).permute(0, 3, 1, 2)
    return F.softmax(logits, dim=1, dtype=_compute_dtype(logits))


def _lies_in_rows(values: Tensor) -> bool:
    """(B, N, H, W) values of which each pixel's are one row in memory, long enough to be worked on as rows.

    Along dim 1 torch on a CPU turns such values around in memory and back, which at 150 classes takes most of the
    time of a loss. Rows of less than a vector register's 16 numbers are worked on one by one.
    """
    return (
        values.device.type == "cpu"
        and values.shape[1] >= _LEAST_ROW
        and values.is_contiguous(memory_format=torch.channels_last)
    )


def _surprise(log_p: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """(B, H, W): minus the (weighted) log-probability of the true class; 0 at ignored pixels."""
    weight = None if class_weights is None else class_weights.to(log_p.dtype)
    # Not reduced here: the fused sum adds in no fixed order on a GPU, and runs would not repeat bit by bit.
    if _lies_in_rows(log_p):
        rows = log_p.permute(0, 2, 3, 1).flatten(0, 2)
        return F.nll_loss(rows, target.long().flatten(), weight, ignore_index=IGNORE, reduction="none").view_as(target)
    return F.nll_loss(log_p, target.long(), weight, ignore_index=IGNORE, reduction="none")


def _pixel_weight(target: Tensor, class_weights: Tensor | None) -> Tensor:
    """(1,) float32: number of labelled pixels, or the sum of their classes' weights."""
    if class_weights is None:
        return (target != IGNORE).sum().float().unsqueeze(0)
    table = F.pad(class_weights.float(), (0, IGNORE + 1 - len(class_weights)))
    return table[target.long()].sum().unsqueeze(0)


def _labelled_pictures(target: Tensor) -> Tensor:
    """(1,) float32: number of pictures with a labelled pixel."""
    return (target != IGNORE).flatten(1).any(dim=1).sum().float().unsqueeze(0)


def _lovasz_of_picture(p: Tensor, target: Tensor) -> Tensor:
    """Scalar, from (N, P) probabilities and (P,) class indices; 0 where nothing is labelled."""
    present = torch.bincount(target, minlength=IGNORE + 1)[:IGNORE].nonzero().flatten()
    truth = target == present[:, None]
    errors = (p.index_select(0, present) - truth.to(p.dtype)).abs()
    # Ignored pixels come last, below every error: they move no other pixel's step, and their own is 0.
    errors, order = errors.masked_fill(target == IGNORE, -1).sort(dim=1, descending=True)
    return (errors * _jaccard_steps(truth.gather(1, order), p.dtype)).sum() / max(len(present), 1)


def _jaccard_steps(truth: Tensor, dtype: torch.dtype) -> Tensor:
    """How much 1 - intersection / union grows when one more pixel, in the given order, is wrong.

    ``truth`` is (C, P) bool: does the pixel belong to the class. Returns (C, P) >= 0; each row sums to one.
    """
    missed = truth.cumsum(dim=1, dtype=dtype)
    area = missed[:, -1:]
    union = area + (~truth).cumsum(dim=1, dtype=dtype)
    # A missed pixel of the class takes 1 / union; a false one shrinks what is left from I / (union - 1) to I / union.
    # In this form, not as a difference of neighbours, small steps keep their digits.
    steps: Tensor = torch.where(truth, 1.0, (area - missed) / (union - 1)) / union
    return steps
