"""Mixed pictures and their loss, against torchvision, torch and the papers' arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from pixbox.labels import LabelMap
from pixbox.sample import Batch
from pixbox.tasks.classification import ClassificationTask
from pixbox.tasks.mixing import Mixing

COUNT = 7


@pytest.fixture
def batch() -> Batch:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 3, 24, 32), dtype=torch.uint8, generator=source)
    return Batch(images, torch.tensor([0, 3, 3, 6, 1]), tuple("abcde"))


class Linear(nn.Module):
    """Logits from the mean colour: what a network has been shown can be read off them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, COUNT)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.float().mean(dim=(2, 3)) / 255)


def task_with(mixing: Mixing, label_smoothing: float = 0.0) -> ClassificationTask:
    torch.manual_seed(1)
    labels = LabelMap.model_validate({"classes": [f"c{i}" for i in range(COUNT)]})
    return ClassificationTask(Linear(), labels, label_smoothing, mixing)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0.2, 1.0])
@pytest.mark.parametrize(("name", "reference"), [("mixup", v2.MixUp), ("cutmix", v2.CutMix)])
def test_mixed_pictures_are_those_of_torchvision(batch: Batch, name: str, reference: type, alpha: float) -> None:
    theirs = reference(alpha=alpha, num_classes=COUNT)
    for seed in range(20):
        torch.manual_seed(seed)
        images, share = Mixing(**{name: alpha})(batch.images)
        torch.manual_seed(seed)
        expected, truth = theirs(batch.images.float(), batch.targets)
        torch.testing.assert_close(images.float(), expected, rtol=0, atol=1e-3)
        own = functional.one_hot(batch.targets, COUNT) * share
        torch.testing.assert_close(own + functional.one_hot(batch.targets.roll(1), COUNT) * (1 - share), truth)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0), Mixing(mixup=0.2, cutmix=1.0)])
def test_loss_equals_torchs_on_probabilities(batch: Batch, mixing: Mixing, label_smoothing: float) -> None:
    task = task_with(mixing, label_smoothing)
    for seed in range(8):
        torch.manual_seed(seed)
        found = task.loss_sums(batch, None)
        torch.manual_seed(seed)
        images, share = mixing(batch.images)
        truth = functional.one_hot(batch.targets, COUNT) * share
        truth = truth + functional.one_hot(batch.targets.roll(1), COUNT) * (1 - share)
        logits = task.network(images)
        expected = functional.cross_entropy(logits, truth, reduction="sum", label_smoothing=label_smoothing)
        torch.testing.assert_close(found, expected[None])


def test_without_mixing_pictures_are_as_they_were_and_nothing_is_drawn(batch: Batch) -> None:
    state = torch.get_rng_state()
    images, share = Mixing()(batch.images)
    assert images is batch.images
    assert share == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_with_both_each_is_drawn_for_half_of_the_batches(batch: Batch) -> None:
    torch.manual_seed(0)
    # Mixed light is a float, pasted pixels stay bytes.
    pasted = sum(Mixing(mixup=1, cutmix=1)(batch.images)[0].dtype == torch.uint8 for _ in range(400))
    # Three standard deviations of 400 fair coins.
    assert abs(pasted - 200) <= 30


def test_draws_follow_torchs_seed_alone(batch: Batch) -> None:
    def drawn(seed: int) -> tuple[Tensor, float]:
        torch.manual_seed(seed)
        return Mixing(mixup=0.3, cutmix=0.7)(batch.images)

    assert torch.equal(drawn(3)[0], drawn(3)[0])
    assert len({drawn(seed)[1] for seed in range(6)}) == 6


def test_the_batch_itself_is_not_changed(batch: Batch) -> None:
    before = batch.images.clone()
    for mixing in (Mixing(mixup=1), Mixing(cutmix=1)):
        mixing(batch.images)
    assert torch.equal(batch.images, before)


def test_a_batch_of_one_is_mixed_with_itself() -> None:
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(Mixing(mixup=1)(image)[0], image.float(), rtol=0, atol=1e-3)


class Says(nn.Module):
    """Logits that name given classes."""

    def __init__(self, classes: Tensor) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return functional.one_hot(self.classes, COUNT).float()


def test_training_accuracy_counts_the_class_that_most_of_a_picture_is_of(batch: Batch) -> None:
    class Fixed(Mixing):
        def __call__(self, images: Tensor) -> tuple[Tensor, float]:
            return images, self.mixup

    for share, truth in ((0.6, batch.targets), (0.4, batch.targets.roll(1))):
        for said, accuracy in ((truth, 1.0), (truth.roll(1), (truth == truth.roll(1)).float().mean().item())):
            task = task_with(Fixed(mixup=share))
            task.network = Says(said)  # type: ignore[assignment]
            seen = task.training_confusion()
            task.loss_sums(batch, seen)
            assert task.training_figures(seen)["accuracy"] == pytest.approx(accuracy)
