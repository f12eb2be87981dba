"""Every setting once: name, type, default, unit and meaning.

The schema (``pixbox schema``), the documentation page and the error messages are made from these fields.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pixbox.documents import Document, override, read_document, to_yaml, validate
from pixbox.errors import ConfigError, Fault
from pixbox.labels import LabelMap

Task = Literal["segmentation", "detection", "classification"]
Format = Literal[
    "list", "folders", "voc", "cityscapes", "ade20k", "coco-stuff", "ccp", "coco", "yolo", "labelme", "cvat",
    "label-studio", "objects", "voc-boxes", "box-list", "imagefolder",
]  # fmt: skip
Architecture = Literal[
    "unet", "unet_classic", "fast", "segnet", "pspnet", "unetplusplus", "manet", "linknet", "fpn", "pan",
    "deeplabv3", "deeplabv3plus", "upernet", "segformer", "dpt", "retinanet", "classifier",
]  # fmt: skip
LossName = Literal["cross_entropy", "binary", "dice", "cross_entropy_dice", "focal", "lovasz", "ohem"]
ClassWeighting = Literal["none", "median_frequency", "enet", "inverse"]
OptimizerName = Literal["adam", "adamw", "sgd", "rmsprop"]
ScheduleName = Literal["constant", "poly", "onecycle", "cosine", "step", "plateau"]
MONITORED: Mapping[Task, tuple[str, ...]] = {
    "segmentation": ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "val_loss", "train_loss"),
    "detection": ("map_50", "map", "map_75", "voc_map_50", "voc07_map_50", "mar_100", "val_loss", "train_loss"),
    "classification": ("accuracy", "top5_accuracy", "val_loss", "train_loss"),
}
"""What each task can be judged by; the first is the default."""
_ARCHITECTURE: Mapping[Task, str] = {"segmentation": "unet", "detection": "retinanet", "classification": "classifier"}
_LOSS: Mapping[Task, str] = {"segmentation": "cross_entropy", "detection": "focal", "classification": "cross_entropy"}


Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveNumber = Annotated[float, Field(gt=0)]
DURATION = r"^([1-9][0-9]*h([0-9]+m)?([0-9]+s)?|[1-9][0-9]*m([0-9]+s)?|[1-9][0-9]*s)$"
MEMORY = r"^[0-9]+(\.[0-9]+)? ?(kB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
SizeHW = Annotated[tuple[Count, Count], Field(strict=False)]
Range = Annotated[tuple[float, float], Field(strict=False)]


class Section(BaseModel):
    """Unknown keys are faults; a truth value is never taken for a number, nor text for either."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Interval:
    """A length of training: so many epochs, or so many optimizer steps."""

    count: int
    unit: Literal["epochs", "steps"] = "epochs"

    def in_steps(self, steps_per_epoch: int) -> int:
        return self.count if self.unit == "steps" else self.count * steps_per_epoch


def _read_interval(value: Any) -> Interval:
    if isinstance(value, Interval):
        return value
    if type(value) is int and value >= 1:
        return Interval(value)
    if isinstance(value, str) and (match := re.fullmatch(r"([1-9][0-9_]*)\s*(epoch|step)s?", value)):
        return Interval(int(match[1]), "epochs" if match[2] == "epoch" else "steps")
    raise ValueError('write a number of epochs (5) or of steps ("500 steps")')


IntervalField = Annotated[
    Interval,
    BeforeValidator(_read_interval),
    PlainSerializer(lambda i: i.count if i.unit == "epochs" else f"{i.count} steps", when_used="always"),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[1-9][0-9_]* ?(epoch|step)s?$"}]}
    ),
]


class FolderPair(Section):
    """Where the pictures and masks of one split lie, below ``data.root``."""

    images: Annotated[str, Field(description="Folder of pictures.")]
    masks: Annotated[str, Field(description="Folder of masks.")]
    mask_suffix: Annotated[str, Field(description="What follows the picture's stem in the mask's: `_mask`.")] = ""
    ids: Annotated[str | None, Field(description="A file that lists the stems to use, one a line; all if not set.")] = (
        None
    )


class AnnotatedFolder(Section):
    """Where the pictures of one split and the files that describe their objects lie, below ``data.root``."""

    images: Annotated[str, Field(description="Folder of pictures.")]
    annotations: Annotated[str, Field(description="The annotation file, or the folder of annotation files.")]
    ids: Annotated[str | None, Field(description="A file that lists the stems to use, one a line; all if not set.")] = (
        None
    )


def _kind_of_source(value: Any) -> str:
    if isinstance(value, AnnotatedFolder) or (isinstance(value, dict) and "annotations" in value):
        return "annotated"
    return "folders" if isinstance(value, dict | FolderPair) else "name"


SplitSource = Annotated[
    Annotated[str, Tag("name")] | Annotated[FolderPair, Tag("folders")] | Annotated[AnnotatedFolder, Tag("annotated")],
    Discriminator(_kind_of_source),
]


def _kind_of_labels(value: Any) -> str:
    return "inline" if isinstance(value, dict | LabelMap) else "file"


LabelSource = Annotated[
    Annotated[str, Tag("file")] | Annotated[LabelMap, Tag("inline")], Discriminator(_kind_of_labels)
]


class AugmentConfig(Section):
    """Random changes of training pictures. Everything is off by default. Geometry is applied in one warp."""

    scale: Annotated[Range, Field(description="Least and largest zoom, drawn log-uniformly.")] = (1.0, 1.0)
    rotate: Annotated[float, Field(ge=0, le=180, description="Largest rotation either way, degrees.")] = 0.0
    shear: Annotated[float, Field(ge=0, lt=90, description="Largest shear either way, degrees.")] = 0.0
    flip: Annotated[Share, Field(description="Probability of a left-right mirror image.")] = 0.0
    flip_vertical: Annotated[
        Share, Field(description="Probability of a top-bottom mirror image (aerial, medical).")
    ] = 0.0
    crop_area: Annotated[
        Range,
        Field(description=(
            "Least and largest share of the picture's area that a random part keeps; the part is then fitted to `size` as `fit` "
            "says. Not for `fit: crop`, which cuts already."
        )),
    ] = (1.0, 1.0)  # fmt: skip
    crop_ratio: Annotated[
        Range, Field(description="Least and largest width / height of that part, drawn log-uniformly.")
    ] = (0.75, 4 / 3)
    rare_crops: Annotated[
        Share,
        Field(description=(
            "Segmentation, `fit: crop`: probability that the window is laid around a pixel of a rare class, one with less than half "
            "an even share of the training pixels."
        )),
    ] = 0.0  # fmt: skip
    paste: Annotated[
        Share,
        Field(description=(
            "Segmentation: probability that objects of rare classes (likewise) are copied from another training picture, at about "
            "their own height."
        )),
    ] = 0.0  # fmt: skip
    mixup: Annotated[
        NonNegative,
        Field(description="Classification: mix pictures of a batch; both parameters of the Beta distribution; 0: off."),
    ] = 0.0
    cutmix: Annotated[
        NonNegative,
        Field(description="Classification: paste parts of pictures into others; likewise. With `mixup`, one is drawn."),
    ] = 0.0
    brightness: Annotated[Share, Field(description="Largest change of brightness, share of the full range.")] = 0.0
    contrast: Annotated[Share, Field(description="Largest change of contrast, factor 1-c to 1+c.")] = 0.0
    saturation: Annotated[Share, Field(description="Largest change of saturation, factor 1-s to 1+s.")] = 0.0
    hue: Annotated[
        float, Field(ge=0, le=0.5, description="Largest turn of hue either way, share of the colour circle.")
    ] = 0.0
    blur: Annotated[NonNegative, Field(description="Largest sigma of a Gaussian blur, pixels.")] = 0.0
    noise: Annotated[
        NonNegative, Field(description="Largest standard deviation of Gaussian noise, grey levels of 255.")
    ] = 0.0

    @field_validator("scale", "crop_area", "crop_ratio")
    @classmethod
    def _ordered(cls, given: tuple[float, float]) -> tuple[float, float]:
        low, high = given
        if not 0 < low <= high:
            raise ValueError(f"the range [{low}, {high}] must be positive and ascending")
        return given

    @field_validator("crop_area")
    @classmethod
    def _within(cls, area: tuple[float, float]) -> tuple[float, float]:
        if area[1] > 1:
            raise ValueError(f"a share of the picture is at most 1, not {area[1]}")
        return area


class DataConfig(Section):
    """Which pictures and labels, and how they reach the network."""

    format: Annotated[Format, Field(description="How the data lie on disk; see docs/data.md.")] = "list"
    root: Annotated[str, Field(description="Folder of the data; relative to this file.")]
    train: Annotated[SplitSource, Field(description="A list file, a split name, or folders, below `root`.")] = "train"
    val: Annotated[SplitSource | None, Field(description="Like `train`, for validation.")] = None
    test: Annotated[SplitSource | None, Field(description="Like `train`, for `evaluate --split test`.")] = None
    val_fraction: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Share of `train` that is held out for validation (seeded, not augmented).",
        ),
    ] = 0.0
    labels: Annotated[
        LabelSource | None,
        Field(
            description="A labels.yaml (relative to this file) or the label map itself; not needed where the format has one."
        ),
    ] = None
    exclude: Annotated[
        list[str],
        Field(
            description=(
                "Picture ids (paths below `root` without suffix) or patterns with * to leave out; also lines and objects that "
                "`pixbox audit` finds wrong, by their place below `root`: `train.txt:14`."
            )
        ),
    ] = []
    bands: Annotated[
        Annotated[tuple[Count, Count, Count], Field(strict=False)] | None,
        Field(description="Which bands of the picture files become red, green and blue, from 1: [4, 3, 2]."),
    ] = None
    value_range: Annotated[
        Range | None,
        Field(
            description="Pixel numbers that become black and white: [0, 3000]; for 16-bit, 32-bit and float pictures."
        ),
    ] = None
    size: Annotated[SizeHW, Field(description="Height and width that the network sees in training, pixels.")] = (
        512,
        512,
    )
    fit: Annotated[
        Literal["crop", "pad", "stretch", "short_side"],
        Field(description=(
            "How a picture comes to `size`: `crop` cuts a random window at the picture's own scale (evaluation sees the "
            "whole picture), `pad` shrinks or enlarges it to fit and pads the rest, `stretch` ignores its proportions, "
            "`short_side` resizes the shorter side to the smaller number of `size`, but the longer side to no more than the larger "
            "one (pictures then differ in size; those of a batch are padded to the largest)."
        )),
    ] = "crop"  # fmt: skip
    base_size: Annotated[
        Count | None,
        Field(description="Resize every picture's long side to this many pixels first; only for `fit: crop`."),
    ] = None
    augment: AugmentConfig = AugmentConfig()
    batch_size: Annotated[Count, Field(description="Pictures per step and process.")] = 8
    workers: Annotated[
        Annotated[int, Field(ge=0)] | Literal["auto"],
        Field(description="Processes that read pictures; `auto`: from the cores."),
    ] = "auto"
    cache: Annotated[
        Literal["none", "ram", "disk"],
        Field(description="Keep decoded pictures: in memory, or as files that are mapped into memory."),
    ] = "none"
    cache_dir: Annotated[
        str | None,
        Field(description="Folder for `cache: disk`; relative to this file. Default: the user's cache folder."),
    ] = None

    @model_validator(mode="after")
    def _agree(self) -> DataConfig:
        if self.val is not None and self.val_fraction > 0:
            raise ValueError("write `val` or `val_fraction`, not both")
        if self.base_size is not None and self.fit != "crop":
            raise ValueError(f"base_size has no meaning with `fit: {self.fit}`, which resizes to `size`")
        if self.fit == "crop" and self.augment.crop_area != (1.0, 1.0):
            raise ValueError(
                "augment.crop_area has no meaning with `fit: crop`, which cuts out a part of `size` already"
            )
        if self.fit != "crop" and self.augment.rare_crops > 0:
            raise ValueError(f"augment.rare_crops has no meaning with `fit: {self.fit}`, which cuts no window")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise ValueError("value_range must be ascending")
        return self


class ModelConfig(Section):
    """Which network. ``pixbox models`` prints what can be named."""

    architecture: Annotated[
        Architecture,
        Field(description="The network. Default: `unet`, for detection `retinanet`, for classification `classifier`."),
    ] = "unet"
    encoder: Annotated[
        str | None,
        Field(description="A timm model (`resnet34`), or one of the architecture's own; default: the architecture's."),
    ] = None
    weights: Annotated[
        str,
        Field(
            description="`none`, `imagenet` (encoder; downloaded once), or a checkpoint or run folder, relative to this file."
        ),
    ] = "none"
    freeze_bn: Annotated[bool, Field(description="Keep the encoder's BatchNorm statistics and scales fixed.")] = False
    freeze_encoder: Annotated[bool, Field(description="Train the decoder only.")] = False
    options: Annotated[
        dict[str, Any], Field(description="The architecture's own parameters; `pixbox models` lists them.")
    ] = {}


AnchorShape = Annotated[tuple[PositiveNumber, PositiveNumber], Field(strict=False)]


class DetectionConfig(Section):
    """Boxes: the anchors that are moved onto them (`task: detection`)."""

    anchors: Annotated[
        Literal["paper", "compact", "torchvision"] | Annotated[list[AnchorShape], Field(min_length=1)],
        Field(description=(
            "`paper`: 9 shapes of 20 to 64 pixels (Lin et al. 2017), `compact`: 3 shapes of 28; or a list of [width, height] in "
            "pixels. They are those of the first level, stride 8, and double from level to level; `pixbox audit` suggests some. "
            "`torchvision`: the paper's to the pixel as torchvision lays them, for weights trained there."
        )),
    ] = "paper"  # fmt: skip
    levels: Annotated[int, Field(ge=1, le=5, description="Levels of the pyramid, strides 8, 16, 32, ...")] = 5
    positive_iou: Annotated[
        float, Field(gt=0, lt=1, description="Least IoU of a box and an anchor that is to find it.")
    ] = 0.5
    negative_iou: Annotated[
        float, Field(gt=0, lt=1, description="An anchor with less IoU with every box is background.")
    ] = 0.4
    focal_alpha: Annotated[
        Share, Field(description="Focal loss: weight of a class that is there; its exponent is `loss.gamma`.")
    ] = 0.25
    box_loss: Annotated[Literal["smooth_l1", "l1", "giou"], Field(description="The loss of the boxes.")] = "smooth_l1"
    box_weight: Annotated[NonNegative, Field(description="Factor of the boxes' loss.")] = 1.0
    smooth_l1_beta: Annotated[
        PositiveNumber, Field(description="smooth_l1: offset (share of the anchor) up to which it is quadratic.")
    ] = 1 / 9
    min_area: Annotated[
        NonNegative, Field(description="Boxes of which augmentation leaves less are dropped, square pixels.")
    ] = 25.0
    score_threshold: Annotated[Share, Field(description="Boxes with a lower score are not kept.")] = 0.05
    candidates: Annotated[
        Count, Field(description="Of each level of the pyramid, so many boxes with the highest scores are looked at.")
    ] = 1000
    shown_score: Annotated[Share, Field(description="Boxes with a lower score are not drawn.")] = 0.5
    overlap: Annotated[
        Literal["union", "min"],
        Field(description="Overlap of two found boxes: their IoU, or the intersection's share of the smaller one."),
    ] = "union"
    overlap_threshold: Annotated[
        Share, Field(description="Of boxes of one class that overlap more, the best is kept.")
    ] = 0.5
    max_detections: Annotated[Count, Field(description="Most boxes of one picture.")] = 300

    @model_validator(mode="after")
    def _ordered(self) -> DetectionConfig:
        if self.negative_iou > self.positive_iou:
            raise ValueError("negative_iou must not be larger than positive_iou")
        if self.anchors == "torchvision" and self.levels != 5:
            raise ValueError(f"`anchors: torchvision` has 5 levels, not {self.levels}")
        return self


class LossConfig(Section):
    """What training makes small."""

    name: Annotated[
        LossName, Field(description="The loss. Default: `cross_entropy`; detection knows only `focal`.")
    ] = "cross_entropy"
    class_weights: Annotated[
        ClassWeighting | list[NonNegative],
        Field(description=(
            "Weight of each class, from its share of the training pixels: `median_frequency` (Eigen and Fergus 2015), `enet` "
            "(Paszke et al. 2016), `inverse`; or one number per class."
        )),
    ] = "none"  # fmt: skip
    label_smoothing: Annotated[float, Field(ge=0, lt=1, description="Share of the truth spread over all classes.")] = (
        0.0
    )
    gamma: Annotated[NonNegative, Field(description="Focal loss: exponent of (1 - p).")] = 2.0
    dice_weight: Annotated[NonNegative, Field(description="cross_entropy_dice: factor of the Dice part.")] = 1.0
    ohem_threshold: Annotated[
        Share, Field(description="OHEM: pixels whose true class has less probability are hard.")
    ] = 0.7
    ohem_min_kept: Annotated[Share, Field(description="OHEM: least share of a picture's labelled pixels to keep.")] = (
        0.1
    )
    auxiliary_weight: Annotated[
        NonNegative, Field(description="Factor of the auxiliary head's loss, where there is one.")
    ] = 0.4


class OptimizerConfig(Section):
    """How weights are moved."""

    name: Annotated[OptimizerName, Field(description="The optimizer.")] = "adamw"
    lr: Annotated[
        float, Field(gt=0, description="Learning rate of the decoder (and of the encoder times its factor).")
    ] = 1e-3
    weight_decay: Annotated[NonNegative, Field(description="Weight decay, as the optimizer defines it.")] = 1e-2
    momentum: Annotated[Share, Field(description="Momentum of SGD and RMSprop.")] = 0.9
    betas: Annotated[Range, Field(description="Decay rates of Adam and AdamW.")] = (0.9, 0.999)
    encoder_lr_factor: Annotated[NonNegative, Field(description="The encoder's learning rate is lr times this.")] = 1.0
    decay_norm_and_bias: Annotated[bool, Field(description="Also decay biases and normalisation scales.")] = True


class ScheduleConfig(Section):
    """How the learning rate moves. Every one but `plateau` is a pure function of the step."""

    name: Annotated[ScheduleName, Field(description="The schedule.")] = "poly"
    power: Annotated[NonNegative, Field(description="poly: (1 - step / steps) ** power.")] = 0.9
    warmup_steps: Annotated[
        int,
        Field(ge=0, description="Steps of linear rise from lr / 100; never more than a tenth of all steps."),
    ] = 0
    min_factor: Annotated[
        Share, Field(description="cosine, onecycle, plateau: the least learning rate, share of lr.")
    ] = 0.0
    peak: Annotated[Share, Field(description="onecycle: share of all steps at which lr is reached.")] = 0.3
    every: Annotated[
        IntervalField | None, Field(description='step: multiply by `factor` every 30 epochs ("500 steps").')
    ] = None
    milestones: Annotated[list[IntervalField], Field(description="step: multiply by `factor` at each of these.")] = []
    factor: Annotated[
        float, Field(gt=0, lt=1, description="step, plateau: what the learning rate is multiplied by.")
    ] = 0.1
    patience: Annotated[
        int, Field(ge=0, description="plateau: validations without a better `training.monitor` to wait.")
    ] = 5

    @model_validator(mode="after")
    def _steps_given(self) -> ScheduleConfig:
        if self.name == "step" and (self.every is None) == (not self.milestones):
            raise ValueError("step needs either `every` or `milestones`")
        return self


class TrainingConfig(Section):
    """How long, on what, and what is kept."""

    epochs: Annotated[Count, Field(description="Passes over the training pictures.")] = 50
    max_steps: Annotated[
        Count | None, Field(description="End after so many optimizer steps, whatever `epochs` says.")
    ] = None
    budget: Annotated[
        str | None,
        Field(
            json_schema_extra={"pattern": DURATION},
            description=(
                'Time for the whole command: "30m", "1h30m", "90s". A few steps are timed first; what fits replaces `epochs` and '
                "`max_steps`, and is what the run's config.yaml says instead of the budget."
            ),
        ),
    ] = None
    monitor: Annotated[
        str,
        Field(description=(
            "What makes a checkpoint the best: `max` or `min` and one of " + ", ".join(MONITORED["segmentation"]) + " (detection: "
            + ", ".join(MONITORED["detection"][:-2]) + "; classification: " + ", ".join(MONITORED["classification"][:-2])
            + "); or `off` (the last is the best). Default: the task's first."
        )),
    ] = "max miou"  # fmt: skip
    patience: Annotated[
        int, Field(ge=0, description="Stop after so many validations without a better value; 0: never.")
    ] = 0
    evaluate_every: IntervalField = Field(
        default_factory=partial(Interval, 1),
        # The schema's default is what one writes, not what it is read as.
        json_schema_extra={"default": 1},
        description='Validate every so many epochs, or "500 steps".',
    )
    save_every: Annotated[
        int, Field(ge=0, description="Keep a checkpoint every so many epochs; 0: only last and best.")
    ] = 0
    log_every: Annotated[Count, Field(description="Write training figures every so many steps.")] = 10
    log_histograms: Annotated[
        bool, Field(description="Write histograms of the weights to TensorBoard at each validation.")
    ] = False
    precision: Annotated[
        Literal["auto", "32", "bf16", "16"],
        BeforeValidator(lambda value: str(value) if type(value) is int else value),
        WithJsonSchema({"enum": ["auto", "32", "bf16", "16", 32, 16]}),
        Field(
            description="Number format of the arithmetic; `auto`: bf16 where the hardware computes it natively (on a CPU only if a few timed steps are faster so), else 16 on a GPU and 32 on a CPU."
        ),
    ] = "auto"
    compile: Annotated[
        bool | Literal["auto"],
        Field(description=(
            "Let torch compile the network before it is trained, which takes minutes once; `auto`: only if a few timed steps are faster so."
        )),
    ] = False  # fmt: skip
    halved_first: Annotated[
        float,
        Field(ge=0, lt=1, description=(
            "Share of the steps, from the first, that see pictures at half their size: a quarter of the work each. What is large is "
            "learned in many quick passes first, what is fine in the rest. Not for detection, whose anchors know sizes."
        )),
    ] = 0.0  # fmt: skip
    accumulate: Annotated[Count, Field(description="Batches whose gradients make one step.")] = 1
    clip_norm: Annotated[NonNegative, Field(description="Largest norm of the gradient; 0: off.")] = 0.0
    clip_value: Annotated[NonNegative, Field(description="Largest absolute entry of the gradient; 0: off.")] = 0.0
    ema: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Decay per step of averaged weights (0.999; less in the first steps), used to evaluate; 0: off.",
        ),
    ] = 0.0
    devices: Annotated[
        Count | Literal["auto"],
        Field(description="Processes (GPUs, or CPU processes) on each machine; `auto`: all GPUs, or one CPU."),
    ] = "auto"
    nodes: Annotated[Count, Field(description="Machines.")] = 1
    accelerator: Annotated[Literal["auto", "cpu", "gpu"], Field(description="What computes.")] = "auto"
    sync_bn: Annotated[bool, Field(description="Share BatchNorm statistics between GPUs.")] = False
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Every random draw follows from it.")] = 0

    @field_validator("monitor")
    @classmethod
    def _monitor_known(cls, monitor: str) -> str:
        direction, _, name = monitor.partition(" ")
        known = list(dict.fromkeys(name for names in MONITORED.values() for name in names))
        if monitor != "off" and (direction not in ("max", "min") or name not in known):
            raise ValueError(f'"{monitor}" is not known. Write `off`, or `max` or `min` and one of: {", ".join(known)}')
        return monitor

    @field_validator("budget")
    @classmethod
    def _a_time(cls, budget: str | None) -> str | None:
        if budget is not None and not re.fullmatch(DURATION, budget):
            raise ValueError('write a time: "90s", "30m" or "1h30m"')
        return budget

    @model_validator(mode="after")
    def _one_way_of_clipping(self) -> TrainingConfig:
        if self.clip_norm > 0 and self.clip_value > 0:
            raise ValueError("write `clip_norm` or `clip_value`, not both")
        return self


class EvaluationConfig(Section):
    """How `evaluate` and `predict` run the network. Both use one path and the precision of training."""

    crop: Annotated[
        Literal["none", "center"],
        Field(description=(
            "`none`: every pixel counts, at the original size. `center`: the shorter side is resized to the smaller of `data.size` and "
            "the centre is cut out and counted, as some published protocols do."
        )),
    ] = "none"  # fmt: skip
    mode: Annotated[
        Literal["auto", "whole", "sliding"],
        Field(description=(
            "`whole`: the picture goes through the network at once; `sliding`: windows of it, of which the answers are blended; "
            "`auto`: whole, where memory allows it."
        )),
    ] = "auto"  # fmt: skip
    window: Annotated[
        SizeHW | None, Field(description="sliding: height and width of a window, pixels; default: `data.size`.")
    ] = None
    overlap: Annotated[
        float, Field(ge=0, le=0.9, description="sliding: least share of a window that its neighbour sees too.")
    ] = 0.25
    blend: Annotated[
        Literal["gaussian", "flat"],
        Field(description="sliding: `gaussian`: a window's middle counts most; `flat`: all its pixels alike."),
    ] = "gaussian"
    batch: Annotated[
        Count | None,
        Field(
            description="Windows, or whole pictures of one size, that go through the network together; default: 4 windows (2 on a CPU), 1 picture."
        ),
    ] = None
    scales: Annotated[
        list[PositiveNumber],
        Field(
            min_length=1,
            description="Sizes at which the network sees everything; the answers are averaged: [0.75, 1, 1.25].",
        ),
    ] = [1.0]
    flip: Annotated[bool, Field(description="Also show the network everything mirrored.")] = False
    max_memory: Annotated[
        str | None,
        Field(
            json_schema_extra={"pattern": MEMORY},
            description='Memory that prediction may take beyond what is taken already: "2GB"; default: half of what is free.',
        ),
    ] = None

    @field_validator("max_memory", mode="before")
    @classmethod
    def _an_amount(cls, given: Any) -> Any:
        if given is not None and not (isinstance(given, str) and re.fullmatch(MEMORY, given)):
            raise ValueError(f'"{given}" is no amount of memory. Write a number and its unit: "2GB", "500 MB"')
        return given


class FirstStage(Section):
    """A training that comes first, on coarser labels; the main training starts from its weights."""

    labels: Annotated[LabelSource, Field(description="The coarser label map (several values may belong to one class).")]
    epochs: Annotated[Count, Field(description="Its length.")]


class Experiment(Section):
    """One experiment: what is trained on what, and how."""

    name: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._-]+(\{time\}[A-Za-z0-9._-]*)?$",
              description="Name of the run folder below `runs/`; `{time}` becomes the date and time."),
    ]  # fmt: skip
    task: Annotated[Task, Field(description="What is predicted.")] = "segmentation"
    data: DataConfig
    model: ModelConfig = ModelConfig()
    detection: DetectionConfig = DetectionConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    first_stage: Annotated[FirstStage | None, Field(description="A training on coarser labels that comes first.")] = (
        None
    )
    origin: Annotated[str, Field(description="Where these data come from; shown when `data.root` is missing.")] = ""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_task(cls, data: Any) -> Any:
        """What is not written follows the task: a U-Net is no detector."""
        if not isinstance(data, dict) or data.get("task") not in MONITORED:
            return data
        task = data["task"]
        data = dict(data)
        for section, key, default in (
            ("model", "architecture", _ARCHITECTURE[task]),
            ("loss", "name", _LOSS[task]),
            ("training", "monitor", f"max {MONITORED[task][0]}"),
        ):
            if isinstance(data.setdefault(section, {}), dict):
                data[section] = {key: default, **data[section]}
        if task == "detection":
            _normalise_small_batches(data)
        return data

    @model_validator(mode="after")
    def _fits_the_task(self) -> Experiment:
        monitor, known = self.training.monitor, MONITORED[self.task]
        if monitor != "off" and monitor.split()[1] not in known:
            raise ValueError(f"training.monitor: {self.task} is not judged by `{monitor}`, but by {', '.join(known)}")
        if self.task != "classification" and (self.data.augment.mixup or self.data.augment.cutmix):
            raise ValueError(f"data.augment: mixup and cutmix are for `task: classification`, not {self.task}")
        if self.task == "detection" and self.training.halved_first > 0:
            raise ValueError(
                "training.halved_first: not for detection, whose anchors know the size of what they are to find"
            )
        if self.task != "segmentation":
            if self.data.augment.rare_crops > 0 or self.data.augment.paste > 0:
                raise ValueError(f"data.augment: rare_crops and paste are for `task: segmentation`, not {self.task}")
            if self.loss.name != _LOSS[self.task]:
                raise ValueError(f"loss.name: {self.task} knows only `{_LOSS[self.task]}`, not `{self.loss.name}`")
            if self.loss.class_weights != "none":
                raise ValueError(f"loss.class_weights: {self.task} knows none")
            if self.first_stage is not None:
                raise ValueError("first_stage: two stages are for `task: segmentation`")
        return self

    def to_yaml(self) -> str:
        """The whole experiment, defaults written out; ``read_experiment`` reads it back to an equal one."""
        return to_yaml(self.model_dump(mode="json"))


SMALL_BATCH = 16
"""Pictures of a step and process; with fewer, a detector's BatchNorm statistics are too noisy (He et al. 2019)."""


def _normalise_small_batches(data: dict[str, Any]) -> None:
    """How a detector's encoder is normalised, where that is not written: GroupNorm from scratch, else frozen BatchNorm.

    What is decided is written down, so that a run resumed with other batches stays the network that it is.

    Source: He et al. 2019, Rethinking ImageNet pre-training, section 3.1.
    """
    pictures, model = data.get("data"), data["model"]
    batch = DataConfig.model_fields["batch_size"].default
    if isinstance(pictures, dict):
        batch = pictures.get("batch_size", batch)
    if not isinstance(model, dict) or not isinstance(batch, int) or not isinstance(model.get("options", {}), dict):
        return
    small, from_scratch = batch < SMALL_BATCH, model.get("weights", "none") == "none"
    norm = "group" if small and from_scratch and not model.get("freeze_bn") else "batch"
    model = data["model"] = {**model, "options": {"encoder_norm": norm, **model.get("options", {})}}
    if small and not from_scratch and model["options"]["encoder_norm"] == "batch":
        model.setdefault("freeze_bn", True)


_FILES = ("data.root", "data.cache_dir", "model.weights")
_LABELS = ("data.labels", "first_stage.labels")


def read_experiment(path: Path, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read a configuration file and apply overrides (dotted keys).

    ``data.root``, ``data.labels``, ``data.cache_dir``, a file in ``model.weights`` and ``first_stage.labels``
    become absolute: relative to the file, or to the current folder where an override gave them. A label
    file is read and becomes part of the result; overrides reach into it (``data.labels.unknown``).

    Raises:
        ConfigError: every fault of the file, its label files and the overrides at once.
    """
    return _read(read_document(path), overrides or {})


def complete_experiment(experiment: Experiment, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """What ``read_experiment`` makes of a file, for an experiment made in Python.

    Its paths are relative to the current folder.

    Raises:
        ConfigError: every fault of its label files and the overrides at once.
    """
    return _read(Document(experiment.model_dump(mode="json"), folder=Path.cwd()), overrides or {})


def _read(document: Document, overrides: Mapping[str, Any]) -> Experiment:
    into_labels = {key: new for key, new in overrides.items() if key.startswith(tuple(f"{k}." for k in _LABELS))}
    document = override(document, {key: new for key, new in overrides.items() if key not in into_labels})
    for dotted in _FILES:
        section, key, file = _file_setting(document, dotted)
        if file is not None and (key != "weights" or section[key] not in ("none", "imagenet")):
            section[key] = str(file)
    faults: list[Fault] = []
    unread: set[str] = set()
    for dotted in _LABELS:
        section, key, file = _file_setting(document, dotted)
        if file is None:
            continue
        try:
            _insert(document, dotted, read_document(file))
        except ConfigError as error:
            faults += error.faults
            unread.add(dotted)
            section[key] = {"classes": ["unread"]}
    reachable = {key: new for key, new in into_labels.items() if not key.startswith(tuple(unread))}
    try:
        experiment = validate(Experiment, override(document, reachable))
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from None
    if faults:
        raise ConfigError(faults)
    return experiment


def _file_setting(document: Document, dotted: str) -> tuple[dict[str, Any], str, Path | None]:
    """The section and key of a setting, and the absolute path it holds if it is text."""
    name, key = dotted.split(".")
    section = document.value.get(name)
    if not isinstance(section, dict) or not isinstance(section.get(key), str):
        return {}, key, None
    base = Path.cwd() if document.where((name, key)).startswith("--set") else document.folder
    return section, key, (base / os.path.expanduser(section[key])).resolve()


def _insert(document: Document, dotted: str, part: Document) -> None:
    """Put another file's values in place of its name; each keeps the line it was read from."""
    section, key = dotted.split(".")
    document.value[section][key] = part.value
    document.origin.update({(section, key, *inner): place for inner, place in part.origin.items()})


def read_labels(path: Path) -> LabelMap:
    """Read a label map from a YAML or JSON file.

    Raises:
        ConfigError: every fault of the file at once.
    """
    return validate(LabelMap, read_document(path))


def json_schema() -> dict[str, Any]:
    """JSON schema of a configuration file, for editors."""
    return Experiment.model_json_schema()
