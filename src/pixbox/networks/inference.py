"""A trained network made ready to answer: the same function with less work, for inference alone.

What a layer can be joined with is not guessed from names: one small picture goes through the network, and two layers
are joined only where the second is all that ever sees what the first gives. Each join is tried on random numbers,
and the whole on another picture; what does not give the same stays as it is.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pixbox.networks.network import Network

AnyNetwork = TypeVar("AnyNetwork", bound=Network)

_SAME = 1e-4
"""Most that a join may change, as a share of the largest value: what the order of additions changes in float32."""
_SAME_WHOLE = 1e-3
"""The same for half of what the whole network says: its layers add their changes up, and where it takes the largest of
two nearly equal values, a change becomes a large one."""
_WITH_WIDE_SUMS = (nn.LayerNorm, nn.RMSNorm, nn.MultiheadAttention)
"""Transformers and their like add every block to a sum that autocast keeps in float32; in bf16 it loses digits."""
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.SiLU: "swish", nn.Hardswish: "hardswish"}
"""What oneDNN computes within a convolution, by its names."""


def computes_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 itself; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and capable is not None and bool(capable())


def for_inference(network: AnyNetwork, precision: str) -> AnyNetwork:
    """A copy that answers the same in less time, in evaluation mode, on the same device; it cannot be trained.

    Its BatchNorm is part of the convolutions (``fold_batch_norms``), its tensors lie channels last, and it computes in
    a precision of its own, whatever autocast region it is called in. Pictures and answers are as before.

    Args:
        precision: of ``training.precision``, resolved. ``bf16``: weights and features are bf16 where the hardware
            computes it, and float32 elsewhere. ``16``: autocast to float16 on a GPU, float32 on a CPU.
    """
    # What is compared must not be rounded.
    with torch.autocast(network.mean.device.type, enabled=False):
        return _made_ready(network, precision)


def _made_ready(network: AnyNetwork, precision: str) -> AnyNetwork:
    device = network.mean.device
    prepared = fold_batch_norms(network).to(memory_format=torch.channels_last)
    body = prepared.body
    if precision == "bf16" and computes_bf16(device):
        if not any(isinstance(module, _WITH_WIDE_SUMS) for module in body.modules()):
            lowered = copy.deepcopy(body)
            _lower(lowered, torch.bfloat16, (nn.Module,))
            prepared.body = _OwnPrecision(lowered, torch.bfloat16, None)
            if _runs(prepared):
                _pack(prepared)
                return prepared
        # What operations are cast to is cast once.
        _lower(body, torch.bfloat16, (_ConvNd, nn.Linear))
        prepared.body = _OwnPrecision(body, None, torch.bfloat16)
    elif precision == "16" and device.type == "cuda":
        prepared.body = _OwnPrecision(body, None, torch.float16)
    else:
        prepared.body = _OwnPrecision(body, None, None)
        _pack(prepared)
    return prepared


def fold_batch_norms(network: AnyNetwork) -> AnyNetwork:
    """A copy in evaluation mode whose BatchNorm is part of the convolutions before it, where that can be proven.

    The copy gives the same answers up to rounding. The network stays as it is.

    Source: Jacob et al. 2018, Quantization and Training of Neural Networks, section 3.2.
    """
    # A copy from the start: it is not compiled, if the network is, and would be compiled anew for every size.
    folded = copy.deepcopy(network).eval()
    # Of another size: what a network does may depend on it.
    images = _picture(folded, folded.stride + 1)
    wanted = _answers(folded, images)
    for before, after in _exclusive_pairs(folded, _can_absorb, _is_normalisation):
        convolution, norm = folded.get_submodule(before), folded.get_submodule(after)
        assert isinstance(convolution, _ConvNd)
        assert isinstance(norm, _BatchNorm)
        joined = _folded(convolution, norm)
        # Timm's own kind of BatchNorm also holds what follows it.
        rest = nn.Sequential(*(layer for part in ("drop", "act") if (layer := getattr(norm, part, None)) is not None))
        if _same_layers(nn.Sequential(convolution, norm), nn.Sequential(joined, rest), convolution):
            folded.set_submodule(before, joined)
            folded.set_submodule(after, rest)
    pairs = zip(_answers(folded, images), wanted, strict=True)
    is_same = all(bool((ours - theirs).abs().median() <= _SAME_WHOLE * theirs.abs().max()) for ours, theirs in pairs)
    return folded if is_same else copy.deepcopy(network).eval()


class _OwnPrecision(nn.Module):
    """A body that computes in a type of its own.

    Args:
        dtype: of its weights and of what it is given; None: as it comes.
        autocast: to which type its operations are cast, one by one; None: to none, also in an autocast region.
    """

    def __init__(self, inner: nn.Module, dtype: torch.dtype | None, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.inner = inner
        self._dtype = dtype
        self._autocast = autocast

    @property
    def encoder(self) -> Any:
        return self.inner.encoder

    def forward(self, x: Tensor, *others: Any) -> Any:
        with self._arithmetic(x.device.type):
            return self.inner(x if self._dtype is None else x.to(self._dtype), *others)

    def _arithmetic(self, device: str) -> AbstractContextManager[object]:
        if self._autocast is not None:
            return torch.autocast(device, dtype=self._autocast)
        return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


class _PackedConvolution(nn.Module):
    """A convolution and the activation after it as one operation of oneDNN, whose weights lie as its kernels read them.

    Otherwise they would be laid out anew in every call, and the activation would read and write everything once more.
    Which layout the kernels read depends on the input's size, and weights in the layout of another size cost many times
    the convolution. So they are laid out for the size met last, when it is met again.

    Args:
        convolution: what is to be computed.
        activation: oneDNN's name for what follows it.
        lay_out: False where one picture calls it with several sizes.
    """

    def __init__(self, convolution: nn.Conv2d, activation: str, *, lay_out: bool) -> None:
        super().__init__()
        self._geometry = (
            list(convolution.padding), list(convolution.stride), list(convolution.dilation), convolution.groups,
        )  # fmt: skip
        self._weight = convolution.weight.detach()
        self._bias = None if convolution.bias is None else convolution.bias.detach()
        self._activation = activation
        self._lay_out = lay_out
        # Neither parameter nor buffer: a tensor in such a layout can be neither moved nor copied.
        self._laid_out: tuple[torch.Size, Tensor | None] = (torch.Size(), None)

    @property
    def layout_bytes(self) -> int:
        """What the weights take once more when they are laid out."""
        return self._weight.nbytes if self._lay_out else 0

    def forget_layout(self) -> None:
        """Free what was laid out."""
        self._laid_out = (torch.Size(), None)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight_for(x), self._bias, *self._geometry, self._activation, [], ""
        )
        return found

    def _weight_for(self, x: Tensor) -> Tensor:
        if not self._lay_out:
            return self._weight
        # Read and written as one, because threads may share the network.
        size, layout = self._laid_out
        if size != x.shape[2:]:
            self._laid_out = (x.shape[2:], None)
            return self._weight
        if layout is None:
            layout = torch.ops.aten.mkldnn_reorder_conv2d_weight(
                self._weight.to_mkldnn(), *self._geometry, list(x.shape)
            )
            self._laid_out = (size, layout)
        return layout


def layout_bytes(network: nn.Module) -> int:
    """What a network that is ready for inference takes beside its weights once it has met a size twice."""
    return sum(module.layout_bytes for module in network.modules() if isinstance(module, _PackedConvolution))


def _pack(network: Network) -> None:
    """Give the convolutions of a folded network on a CPU to oneDNN, in place; each only if it then gives the same."""
    if network.mean.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return
    followers = dict(_exclusive_pairs(network, _can_be_packed, lambda module: type(module) in _ACTIVATIONS))
    once, calls = _registered_once(network), _calls(network)
    for name, module in list(network.named_modules()):
        if module not in once or not _can_be_packed(module):
            continue
        assert isinstance(module, nn.Conv2d)
        after = followers.get(name)
        activation = None if after is None else network.get_submodule(after)
        packed = _PackedConvolution(
            module, "none" if activation is None else _ACTIVATIONS[type(activation)], lay_out=calls[module] == 1
        )
        former = module if activation is None else nn.Sequential(module, copy.copy(activation))
        # The second time it computes with weights laid out.
        if _same_layers(former, packed, module) and _same_layers(former, packed, module):
            packed.forget_layout()
            network.set_submodule(name, packed)
            if after is not None:
                network.set_submodule(after, nn.Identity())


def _can_absorb(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module._parameters.get("weight") is not None


def _is_normalisation(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None


def _can_be_packed(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and module._parameters.get("weight") is not None
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _folded(convolution: _ConvNd, norm: _BatchNorm) -> _ConvNd:
    joined = copy.deepcopy(convolution)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    joined.weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
        transpose=isinstance(convolution, nn.ConvTranspose2d),
    )  # fmt: skip
    joined.bias = bias
    return joined


def _lower(body: nn.Module, dtype: torch.dtype, kinds: tuple[type[nn.Module], ...]) -> None:
    """The weights of some kinds of modules, to a lower precision, in place.

    Statistics that stay, and tables that positions are computed from, keep theirs.
    """
    for module in body.modules():
        if isinstance(module, _BatchNorm) or not isinstance(module, kinds):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.dtype == torch.float32:
                parameter.data = parameter.data.to(dtype)


class _Uses(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Which operations see a tensor."""

    def __init__(self, seen: Callable[[Tensor], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs or {})):
            if isinstance(value, Tensor):
                self._seen(value)
        return func(*args, **(kwargs or {}))


class _Witness:
    """What becomes of the answers of some modules while a network runs."""

    def __init__(self, first: dict[nn.Module, str], second: dict[nn.Module, str]) -> None:
        self.first, self.second = first, second
        self.partners: dict[nn.Module, set[nn.Module | None]] = {module: set() for module in (*first, *second)}
        # By identity, and kept so that none is given twice: tensor, and the module that made it.
        self._made: dict[int, tuple[Tensor, nn.Module]] = {}
        self._inside: list[Tensor] = []

    def seen(self, tensor: Tensor) -> None:
        """An operation outside of the second modules sees a tensor."""
        made = self._made.get(id(tensor))
        if made is not None and not any(tensor is held for held in self._inside):
            self.partners[made[1]].add(None)

    def before_second(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        made = self._made.get(id(inputs[0]))
        self.partners[module].add(None if made is None else made[1])
        if made is not None:
            self.partners[made[1]].add(module)
        self._inside.append(inputs[0])

    def after_second(self, module: nn.Module, inputs: tuple[Any, ...], found: Any) -> None:
        self._inside.pop()
        if found is inputs[0]:
            # Written over: what comes out is no longer the first module's answer.
            self._made.pop(id(found), None)

    def after_first(self, module: nn.Module, inputs: tuple[Any, ...], found: Any) -> None:
        self._made[id(found)] = (found, module)

    def pairs(self) -> Iterator[tuple[str, str]]:
        for module, name in self.first.items():
            partners = self.partners[module]
            if len(partners) != 1:
                continue
            (partner,) = partners
            if partner is not None and self.partners[partner] == {module}:
                yield name, self.second[partner]


@torch.inference_mode()
def _exclusive_pairs(
    network: Network, first: Callable[[nn.Module], bool], second: Callable[[nn.Module], bool]
) -> list[tuple[str, str]]:
    """Names of modules of two kinds of which one always follows the other and nothing else sees what is between."""
    once = _registered_once(network)
    named = [(name, module) for name, module in network.named_modules() if module in once]
    witness = _Witness(
        {module: name for name, module in named if first(module)},
        {module: name for name, module in named if second(module)},
    )
    hooks = [module.register_forward_hook(witness.after_first) for module in witness.first]
    hooks += [module.register_forward_pre_hook(witness.before_second) for module in witness.second]
    hooks += [module.register_forward_hook(witness.after_second) for module in witness.second]
    try:
        with _Uses(witness.seen):
            found = network(_picture(network, 0))
    finally:
        for hook in hooks:
            hook.remove()
    for value in tree_leaves(found):
        witness.seen(value)
    return list(witness.pairs())


@torch.inference_mode()
def _calls(network: Network) -> Counter[nn.Module]:
    """How often each module is called for one picture."""
    calls: Counter[nn.Module] = Counter()
    hooks = [
        module.register_forward_hook(lambda called, inputs, found: calls.update([called]))
        for module in network.modules()
    ]
    try:
        network(_picture(network, 0))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _registered_once(network: nn.Module) -> set[nn.Module]:
    """The modules that stand at one place only, so that another can be put there."""
    places = Counter(child for module in network.modules() for child in module._modules.values() if child is not None)
    return {module for module, count in places.items() if count == 1}


def _picture(network: Network, more: int) -> Tensor:
    """Noise, a little larger than the least size; at another ``more`` of another shape."""
    height, width = network.least_size + more, network.least_size + network.stride
    noise = torch.Generator().manual_seed(more)
    return torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=noise).to(network.mean.device)


@torch.inference_mode()
def _same_layers(former: nn.Module, joined: nn.Module, convolution: _ConvNd) -> bool:
    """Whether two ways to compute give the same, on random numbers that a convolution takes."""
    sides = [
        (kernel - 1) * dilation + 1 + stride
        for kernel, dilation, stride in zip(
            convolution.kernel_size, convolution.dilation, convolution.stride, strict=True
        )
    ]
    weight = convolution.weight
    noise = torch.Generator(weight.device).manual_seed(0)
    shape = (1, convolution.in_channels, *sides)
    x = torch.randn(shape, generator=noise, device=weight.device).to(weight.dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    wanted, found = former(x.clone()).float(), joined(x).float()
    # In bf16 two roundings become one.
    share = 2 * torch.finfo(torch.bfloat16).eps if weight.dtype == torch.bfloat16 else _SAME
    return found.shape == wanted.shape and bool((found - wanted).abs().max() <= share * wanted.abs().max())


@torch.inference_mode()
def _answers(network: Network, images: Tensor) -> list[Tensor]:
    return tree_leaves(network(images))


def _runs(network: Network) -> bool:
    try:
        _answers(network, _picture(network, 0))
    except RuntimeError:
        return False
    return True
