"""Batch norm folded into the convolutions before it: the same function in evaluation mode, with less to compute."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)  # themselves and no children of theirs, which may treat their weights first
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)


def fold_batch_norms(model: nn.Module, images: torch.Tensor) -> tuple[nn.Module, int]:
    """A copy of `model` in evaluation mode whose batch norms are part of the convolutions before them.

    One forward pass over `images` shows which those are: the norm's input is what the convolution made, nothing else
    reads that or the weights of either, and each is called once. Other norms stay as they are.

    Args:
        model: any network; it is left as it is.
        images: (B, C, H, W), on the network's device, as it reads them.

    Returns:
        The copy, and how many norms were folded.
    """
    folded = copy.deepcopy(model).eval()
    watch = _Watch(folded)
    with torch.no_grad(), watch:
        output = folded(images)
    pairs = watch.pairs(output)
    names = {module: name for name, module in folded.named_modules()}
    for norm, convolution in pairs.items():
        _fold(convolution, norm)
        rest = nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()
        folded.set_submodule(names[norm], rest.eval())
    return folded, len(pairs)


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give the convolution, in float64 and then rounded once, the scale and shift (O,) of the norm."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.double()
        bias = (
            -norm.running_mean.double() if convolution.bias is None else convolution.bias - norm.running_mean.double()
        )
        shift = bias * scale if norm.bias is None else bias * scale + norm.bias.double()
        weight = convolution.weight
        memory = torch.channels_last if weight.is_contiguous(memory_format=torch.channels_last) else None
        scaled = (weight.double() * scale.view(-1, 1, 1, 1)).to(weight.dtype)
        convolution.weight = nn.Parameter(scaled.contiguous(memory_format=memory or torch.contiguous_format))
        convolution.bias = nn.Parameter(shift.to(weight.dtype))


class _Watch(TorchDispatchMode):
    """Sees, in a forward pass, which norm reads which convolution's output, and whatever else reads it.

    Every operation on tensors passes here, whether a module or a plain function asked for it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._running: list[nn.Module] = []
        self._made: dict[int, tuple[torch.Tensor, nn.Module]] = {}  # outputs, held: an id is not given again
        self._reads: dict[nn.Module, int] = {}  # a norm: the id of its input
        self._calls: Counter[nn.Module] = Counter()
        self._owners: dict[int, nn.Module] = {}
        self._spoiled: set[nn.Module] = set()
        self._hooks = []
        for module in model.modules():
            if type(module) not in (*_CONVOLUTIONS, *_NORMS):
                continue
            if module._forward_hooks or module._forward_pre_hooks:  # such as the older weight norm
                self._spoiled.add(module)
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                other = self._owners.setdefault(id(tensor), module)
                if other is not module:  # tied
                    self._spoiled |= {module, other}
            self._hooks += [module.register_forward_pre_hook(self._begin), module.register_forward_hook(self._end)]

    def pairs(self, output: object) -> dict[nn.BatchNorm2d, nn.Conv2d]:
        """The convolution of each norm that can be folded; `output` is the network's. Ends the watch."""
        for hook in self._hooks:
            hook.remove()
        self._look(output)
        found: dict[nn.BatchNorm2d, nn.Conv2d] = {}
        for norm, read in self._reads.items():
            convolution = self._made[read][1]
            both = {norm, convolution}
            once = all(self._calls[one] == 1 for one in both)
            if once and not both & self._spoiled and norm.track_running_stats and norm.running_mean is not None:
                found[norm] = convolution  # type: ignore[index, assignment]
        return found

    def _begin(self, module: nn.Module, args: tuple[object, ...]) -> None:
        self._calls[module] += 1
        self._running.append(module)
        if type(module) in _NORMS and args and id(args[0]) in self._made:
            self._reads[module] = id(args[0])

    def _end(self, module: nn.Module, args: tuple[object, ...], output: torch.Tensor) -> None:
        self._running.pop()
        if type(module) in _CONVOLUTIONS:
            self._made[id(output)] = output, module

    def _look(self, tensors: object) -> None:
        """Spoil what is read by something else than the norm after it, or than its own module."""
        now = self._running[-1] if self._running else None
        for tensor in tree_leaves(tensors):
            made = self._made.get(id(tensor))
            if made is not None and (now is None or self._reads.get(now) != id(tensor)):
                self._spoiled.add(made[1])
            owner = self._owners.get(id(tensor))
            if owner is not None and owner is not now:
                self._spoiled.add(owner)

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        self._look((args, kwargs))
        return func(*args, **(kwargs or {}))
