"""Encoders from timm: which name is meant, how it is built, what its features look like. Nothing is downloaded here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import timm
from torch import Tensor, nn

from pixbox.errors import ModelError
from pixbox.networks.layers import Norm, norm_layer

Built = TypeVar("Built", bound=nn.Module)

# Encoders made for one picture size take others by one of these timm arguments.
_ANY_SIZE_ARGUMENTS: tuple[dict[str, Any], ...] = ({"strict_img_size": False}, {"dynamic_img_size": True}, {})
_ALL_NAMES = "timm prints all names: python -c 'import timm; print(*timm.list_models())'"


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What timm knows of a model without building it.

    Attributes:
        name: the timm model, with or without the tag of its weights (``resnet34.a1_in1k``).
        mean, std: of RGB, as fractions of the full range; what its weights were trained with.
        size_arguments: timm arguments to try in turn so that the model takes pictures of any size.
    """

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size_arguments: tuple[Mapping[str, Any], ...]


def encoder_facts(name: str) -> EncoderFacts:
    """Look a timm model up.

    Raises:
        ModelError: timm has no such model or tag; the nearest name is suggested.
    """
    architecture, _, tag = name.partition(".")
    # is_model alone would take "hf-hub:owner/model", which timm fetches from the network to build.
    if ":" in name or not timm.is_model(architecture):
        raise ModelError(
            f'timm has no model "{name}"',
            where="model.encoder",
            hint=_near(architecture, timm.list_models()) or _ALL_NAMES,
        )
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ModelError(
            f'timm has no weights "{tag}" of {architecture}',
            where="model.encoder",
            hint=_near(tag, tags) or f"Known: {', '.join(tags)}.",
        )
    config = timm.get_pretrained_cfg(name)
    if config is None:
        return EncoderFacts(name, timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD, ({},))
    arguments = _ANY_SIZE_ARGUMENTS if config.fixed_input_size else ({},)
    return EncoderFacts(name, tuple(config.mean), tuple(config.std), arguments)


def create(facts: EncoderFacts, build: Callable[..., Built]) -> Built:
    """Call ``build(**size_arguments)`` with the first arguments that the model takes.

    Raises:
        ModelError: the model cannot be built as asked (feature maps, output stride).
    """
    failures: list[Exception] = []
    for arguments in facts.size_arguments:
        try:
            return build(**arguments)
        except (TypeError, ValueError, RuntimeError, AssertionError, AttributeError, KeyError, IndexError) as error:
            # timm and SMP have no error type of their own for "this model cannot do that".
            failures.append(error)
    raise does_not_fit(facts.name, failures[-1]) from failures[-1]


def does_not_fit(name: str, reason: object, hint: str = "") -> ModelError:
    """The error of an encoder that exists but cannot serve a network."""
    text = str(reason).strip().partition("\n")[0] or "timm gives no reason"
    if keyword := re.search(r"unexpected keyword argument '(\w+)'", text):
        text = f"timm's model takes no {keyword[1]}"
    return ModelError(
        f'"{name}" does not fit this architecture and its options: {text}', where="model.encoder", hint=hint
    )


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    return f"Did you mean {' or '.join(near)}?" if near else ""


class TimmEncoder(nn.Module):
    """The feature maps of a timm model, one for each stride, finest first.

    ``forward`` takes normalised pictures (B, 3, H, W) and returns tensors (B, channels[i], H / strides[i],
    W / strides[i]), also from models that work channels last.

    Args:
        facts: the model.
        output_stride: the coarsest stride (8 or 16; deeper stages are dilated instead), or None for the model's
            own. With it several features share a stride and all are returned.
        norm: ``group``: every BatchNorm becomes a GroupNorm, which does not mix pictures, for small batches from
            scratch. The model's weights do not fit it.

    Raises:
        ModelError: the model has no feature maps, or does not take the output stride.
    """

    def __init__(self, facts: EncoderFacts, output_stride: int | None = None, norm: Norm = "batch") -> None:
        super().__init__()
        dilated = {} if output_stride is None else {"output_stride": output_stride}

        def build(**size_arguments: Any) -> nn.Module:
            model: nn.Module = timm.create_model(
                facts.name, pretrained=False, features_only=True, **dilated, **size_arguments
            )
            return model

        self.model = create(facts, build)
        if norm == "group":
            _replace_batch_norms(self.model)
        info: Any = self.model.feature_info
        self.channels: list[int] = info.channels()
        self.strides: list[int] = info.reduction()
        self._channels_last = str(getattr(self.model, "output_fmt", "")).endswith("NHWC")

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.model(x)
        if self._channels_last:
            return [feature.permute(0, 3, 1, 2) for feature in features]
        return list(features)


def _replace_batch_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _group_norm_for(child))
        else:
            _replace_batch_norms(child)


def _group_norm_for(norm: nn.BatchNorm2d) -> nn.Module:
    group = norm_layer("group", norm.num_features)
    # The first values stay: in some blocks the last normalisation begins with scale 0.
    group.load_state_dict(norm.state_dict(), strict=False)
    # Timm's own kind of BatchNorm also holds what follows it.
    following = [layer for part in ("drop", "act") if (layer := getattr(norm, part, None)) is not None]
    return nn.Sequential(group, *following) if following else group
