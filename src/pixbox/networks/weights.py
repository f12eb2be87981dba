"""Weights for a new network: from ImageNet, a file or an earlier run, matched by name and shape, and reported."""

from __future__ import annotations

import itertools
import ssl
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from pixbox.errors import ModelError
from pixbox.networks.network import Network

PROBE_SECONDS = 4.0
LEAST_SHARE = 0.5
"""Of the encoder's values; below it a source is taken for a mistake."""
_WHERE = "model.weights"
_ENCODER = "body.encoder."
_STATISTICS = ".running_mean"
_NORMS = {"BatchNorm": "batch", "GroupNorm": "group"}
_DEEPEST_PREFIX = 6
_CONTAINERS = ("state_dict", "model", "model_state_dict")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_WAY_OUT = (
    "Train from scratch: --set model.weights=none\n"
    "Take a file (.pt, .pth, .ckpt, .safetensors) or a run folder: --set model.weights=FILE"
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A tensor of the file that was not used, and why."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of every weight and every running statistic.

    Attributes:
        source: ``none``, the timm model whose ImageNet weights were taken, or the file.
        loaded: names in the network that now hold values from the source.
        missing: names in the network that keep their initial values.
        skipped: names in the source that were not used.
        encoder_loaded, encoder_total: tensors of the encoder; included in the above.
        other_classes: all fits but the layers whose outputs are the classes: the source has other ones.
    """

    source: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    encoder_loaded: int
    encoder_total: int
    other_classes: bool = False

    def summary(self) -> str:
        """One paragraph for the log."""
        total = len(self.loaded) + len(self.missing)
        if not self.loaded:
            return f"Weights: {self.source}; all {total} tensors of the network keep their initial values."
        text = (
            f"Weights: {self.source}; {len(self.loaded)} of {total} tensors loaded "
            f"(encoder: {self.encoder_loaded} of {self.encoder_total})."
        )
        if self.other_classes:
            return (
                f"{text} The source has other classes: only what tells them apart starts anew ({_some(self.missing)})."
            )
        if self.missing:
            text += f" {len(self.missing)} keep their initial values ({_some(self.missing)})."
        if self.skipped:
            reasons = Counter(item.reason for item in self.skipped)
            told = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
            names = _some([item.key for item in self.skipped])
            text += f" {len(self.skipped)} of the source not used ({names}: {told})."
        return text

    def table(self) -> str:
        """Key by key: one line for each tensor of the network, then one for each unused tensor of the source."""
        rows = [(name, "loaded") for name in self.loaded]
        rows += [(name, "initial value") for name in self.missing]
        rows += [(item.key, f"not used: {item.reason}") for item in self.skipped]
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name:<{width}}  {result}" for name, result in rows)


def load_weights(network: Network, weights: str) -> LoadReport:
    """Fill a network, in place, with what fits by name and shape.

    Prefixes (``module.``, ``task.network.``, ``backbone.``) are found by what makes most tensors fit. A file
    that holds only an encoder, with timm's or torchvision's names, goes into the encoder. Tensors of another
    shape, such as a classifier for other classes, are left out. BatchNorm and GroupNorm do not stand in for each
    other, though their tensors have the same names. Weights of a whole network bring their
    normalisation (``mean``, ``std``) along. A file of torchvision's RetinaNet fills a detection network.

    Args:
        weights: ``none``; ``imagenet`` (the encoder's, downloaded once to the Hugging Face cache); a file (.pt,
            .pth, .ckpt, .safetensors: a state_dict, also below ``state_dict`` or ``model``); or a run folder
            (its ``checkpoints/best.ckpt``).

    Raises:
        ModelError: the file is missing or unreadable; less than half of the encoder fits; the encoder of one has
            BatchNorm and that of the other has not; ImageNet weights do not exist or are neither in the cache nor
            within reach (known within seconds); frozen BatchNorm layers would keep their random start for ever.
    """
    if weights == "none":
        if network.has_frozen_statistics():
            raise ModelError(
                "freeze_bn and freeze_encoder need trained weights; with `none` the encoder's BatchNorm layers would "
                "keep mean 0 and variance 1 for ever",
                where=_WHERE,
                hint="Set model.weights to imagenet or a file, or do not freeze.",
            )
        return _fill(network, {}, _Match({}, (), {}), "none")
    if weights == "imagenet":
        if network.pretrained_name is None:
            raise ModelError(
                "this architecture has no ImageNet weights",
                where=_WHERE,
                hint=f"{_WAY_OUT}\nOr choose an architecture on a timm encoder: --set model.architecture=unet",
            )
        state = _imagenet_state(network.pretrained_name)
        return _fill_encoder_at_least(network, state, f"ImageNet weights of timm's {network.pretrained_name}")
    path = _weights_file(Path(weights))
    return _fill_encoder_at_least(network, network.own_names(_read_state(path)), str(path))


def _weights_file(path: Path) -> Path:
    if path.is_dir():
        best = path / "checkpoints" / "best.ckpt"
        if not best.is_file():
            raise ModelError(
                "weights: this folder has no checkpoints/best.ckpt", where=str(path), hint="Name the file itself."
            )
        return best
    if not path.is_file():
        raise ModelError(
            "weights: no such file or run folder",
            where=str(path),
            hint="model.weights is none, imagenet, a file or a run folder.",
        )
    return path


def _read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen kinds, depending on where the file is damaged
        reason = str(error).strip().partition("\n")[0][:200]
        raise ModelError(
            f"weights: the file cannot be read ({type(error).__name__}: {reason})",
            where=str(path),
            hint="Only tensors are read, never code: save model.state_dict() and not the model itself.",
        ) from None
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ModelError("weights: the file holds no tensors by name", where=str(path), hint=_WAY_OUT)
    return tensors


@dataclass(frozen=True, slots=True)
class _Match:
    """Which tensor of a source goes where.

    Attributes:
        keys: name in the network -> key in the source.
        skipped: what goes nowhere.
        names: key in the source -> its name below the root of the network that was found, also where there is no such
            tensor.
    """

    keys: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    names: Mapping[str, str]


def _fill_encoder_at_least(network: Network, state: Mapping[str, Tensor], source: str) -> LoadReport:
    """Fill a network, or raise before anything has changed."""
    match = _match(state, network.state_dict())
    sizes = {f"{_ENCODER}{name}": tensor.numel() for name, tensor in network.encoder.state_dict().items()}
    share = sum(size for name, size in sizes.items() if name in match.keys) / max(1, sum(sizes.values()))
    if share < LEAST_SHARE:
        raise ModelError(
            f"weights: these belong to another network; {share:.0%} of the encoder fits by name and shape",
            where=source,
            hint=f"The source has: {_some(state)}\nThe network has: {_some(network.state_dict())}\n"
            "Set model.architecture and model.encoder to what the weights were made with.",
        )
    _check_normalisation(network, match, source)
    return _fill(network, state, match, source)


def _check_normalisation(network: Network, match: _Match, source: str) -> None:
    """BatchNorm and GroupNorm have scales and offsets of one name and shape, which mean nothing in the other's place.

    Raises:
        ModelError: the encoder of the source has BatchNorm and the network's has not, or the other way round.
    """
    found = any(name.startswith(_ENCODER) and name.endswith(_STATISTICS) for name in match.names.values())
    wanted = any(name.endswith(_STATISTICS) for name in network.encoder.state_dict())
    if found == wanted:
        return
    theirs, ours = ("BatchNorm", "GroupNorm") if found else ("GroupNorm", "BatchNorm")
    raise ModelError(
        f"weights: the source's encoder is normalised by {theirs}, this network's by {ours}",
        where=source,
        hint=f"Set model.options.encoder_norm (unet_classic: norm) to `{_NORMS[theirs]}` here, or train the source "
        f"with `{_NORMS[ours]}`.",
    )


def _fill(network: Network, state: Mapping[str, Tensor], match: _Match, source: str) -> LoadReport:
    network.load_state_dict({name: state[key] for name, key in match.keys.items()}, strict=False)
    names = [name for name in network.state_dict() if _counts(name)]
    encoder = [name for name in names if name.startswith(_ENCODER)]
    missing = tuple(name for name in names if name not in match.keys)
    own = network.state_dict()
    lengths = {name: state[key].shape for key, name in match.names.items() if name in missing}
    # Weights of a layer that gives more or fewer numbers, out of as many.
    # A detector's box head has no classes; it differs where the anchors do.
    outputs = {name for name, shape in lengths.items() if shape[1:] == own[name].shape[1:] and "box_head" not in name}
    return LoadReport(
        source=source,
        loaded=tuple(name for name in names if name in match.keys),
        missing=missing,
        skipped=match.skipped,
        encoder_loaded=sum(name in match.keys for name in encoder),
        encoder_total=len(encoder),
        other_classes=bool(missing) and outputs == set(missing),
    )


def _counts(name: str) -> bool:
    # Normalisation comes from the encoder's table if not from the source; counters of batches change no result.
    return name.startswith("body.") and not name.endswith("num_batches_tracked")


def _match(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> _Match:
    """Pair names after removing one prefix on each side, the two that let most values find their place."""
    places = {root: {_plain(name[len(root) :]): name for name in own if name.startswith(root)} for root in _roots(own)}
    best, most = ("", ""), 0
    for prefix, (root, known) in itertools.product(_common_prefixes(state), places.items()):
        inside = {key: known.get(_plain(key[len(prefix) :])) for key in state if key.startswith(prefix)}
        fits = sum(own[name].numel() for key, name in inside.items() if name and own[name].shape == state[key].shape)
        if fits > most:
            best, most = (prefix, root), fits
    prefix, root = best
    rests = {key: key[len(prefix) :] for key in state if key.startswith(prefix)}
    names = {key: places[root].get(_plain(rest), f"{root}{rest}") for key, rest in rests.items()}
    keys: dict[str, str] = {}
    skipped: list[Skipped] = []
    for key, tensor in state.items():
        name = names.get(key, "")
        if name not in own:
            skipped.append(Skipped(key, "no such tensor in the network"))
        elif own[name].shape != tensor.shape:
            skipped.append(Skipped(key, f"shape {_shape(tensor)} instead of {_shape(own[name])}"))
        else:
            keys[name] = key
    return _Match(keys, tuple(skipped), names)


def _plain(name: str) -> str:
    # timm's feature extractors flatten one level of names: `stages.0.` becomes `stages_0.`.
    return name.replace(".", "_")


def _roots(own: Iterable[str]) -> list[str]:
    """Prefixes of the network's names below which a source may begin: all that the encoder's names share."""
    paths = [name.split(".")[:-1] for name in own if name.startswith(_ENCODER)]
    shared = [steps[0] for steps in itertools.takewhile(lambda steps: len(set(steps)) == 1, zip(*paths, strict=False))]
    return ["".join(f"{step}." for step in shared[:depth]) for depth in range(len(shared) + 1)]


def _common_prefixes(state: Iterable[str]) -> list[str]:
    """Dotted prefixes of a source's names, the empty one first; those of single layers are left out."""
    counts = Counter(prefix for key in state for prefix in _prefixes(key))
    least = max(2, counts[""] // 50)
    return [prefix for prefix, count in sorted(counts.items()) if count >= least or not prefix]


def _prefixes(key: str) -> Iterator[str]:
    steps = key.split(".")[:-1]
    return ("".join(f"{step}." for step in steps[:depth]) for depth in range(min(len(steps), _DEEPEST_PREFIX) + 1))


def _imagenet_state(name: str) -> dict[str, Tensor]:
    """All tensors of a timm classifier with its ImageNet weights, named and shaped as timm builds it now."""
    file = _imagenet_file(name)
    try:
        overlay = {"file": str(file), "custom_load": False}
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:  # as many kinds as there are ways to damage a file
        raise ModelError(
            f"weights: timm's {name} cannot be filled from this file ({type(error).__name__})",
            where=str(file),
            hint="If a download was cut short, delete the file and try again.",
        ) from error
    state: dict[str, Tensor] = model.state_dict()
    return state


def _imagenet_file(name: str) -> Path:
    """The file of a timm model's weights, from the local cache or downloaded into it."""
    import huggingface_hub
    from huggingface_hub import constants

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.hf_hub_id:
        tags = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        elsewhere = f"It may be at {config.url}\n" if config is not None and config.url else ""
        raise ModelError(
            f"timm's {name} has no ImageNet weights on the Hugging Face hub",
            where=_WHERE,
            hint=f"{elsewhere}{_WAY_OUT}" + (f"\nWith weights: {_some(tags)}" if tags else ""),
        )
    repository, _, revision = config.hf_hub_id.partition("@")
    files = [config.hf_hub_filename] if config.hf_hub_filename else list(_HUB_FILES)
    for file in files:
        cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    offline = constants.HF_HUB_OFFLINE
    if offline or not _answers(constants.ENDPOINT):
        reason = "HF_HUB_OFFLINE is set" if offline else f"{constants.ENDPOINT} does not answer"
        raise _not_to_be_had(name, repository, reason, constants.HF_HUB_CACHE)
    for file in files:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision or None))
        except huggingface_hub.errors.EntryNotFoundError as error:
            reason = str(error)
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error)
            break
    raise _not_to_be_had(name, repository, reason.strip().partition("\n")[0], constants.HF_HUB_CACHE)


def _not_to_be_had(name: str, repository: str, reason: str, cache: str) -> ModelError:
    return ModelError(
        f"the ImageNet weights of {name} ({repository}) cannot be downloaded: {reason}",
        where=_WHERE,
        hint=f"They are not in the cache either ({cache}).\n{_WAY_OUT}\n"
        "Use a mirror: set the environment variable HF_ENDPOINT.",
    )


def _answers(endpoint: str) -> bool:
    """Whether a server says anything at all within PROBE_SECONDS; the hub's own client would retry for long."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")
            urllib.request.urlopen(request, timeout=PROBE_SECONDS).close()
        except urllib.error.HTTPError:
            pass
        except OSError as error:
            # A certificate that only this client distrusts is an answer too.
            if not isinstance(getattr(error, "reason", error), ssl.SSLError):
                return
        answered.set()

    # A thread, because looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PROBE_SECONDS)
    return answered.is_set()


def _shape(tensor: Tensor) -> str:
    return "x".join(str(length) for length in tensor.shape) or "scalar"


def _some(names: Iterable[str], count: int = 3) -> str:
    first = list(itertools.islice(names, count + 1))
    return ", ".join(first[:count]) + (", ..." if len(first) > count else "")
