"""Which parts of an image speak for a class: class activation maps, exact through the global average pool."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reslab.errors import InputError
from reslab.nets.network import Network
from reslab.probes.result import Floats, Ints, Result, as_floats, as_ints
from reslab.probes.seam import Sample, computing, opened, own


@dataclass(frozen=True)
class Attribution(Result):
    """A map for each image, of the class asked about."""

    label: Ints
    """the class of each image that its map is of"""
    score: Floats
    """the logit of that class"""
    maps: Floats
    """(images, h, w), positions of what the map is taken from"""
    images: Floats
    """(images, H, W, C): the images as they were given, from their least to their greatest number scaled to 0 ... 1,
    and at most 64 pixels a side"""
    name: tuple[str, ...] = ()
    """of the class of each image, where names are known"""

    @property
    def called(self) -> tuple[str, ...]:
        """The class of each image by its name, or its number."""
        return self.name or tuple(str(label) for label in self.label)


def _before_the_pool(net: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """The input of the global pool (N, C, h, w), and the logits."""
    seen: list[Tensor] = []
    handle = net.avgpool.register_forward_pre_hook(lambda _pool, inputs: seen.append(inputs[0]))
    try:
        logits = net(x)
    finally:
        handle.remove()
    return seen[0], logits


@torch.no_grad()
def class_activation(net: nn.Module, sample: Sample, classes: Tensor | None = None) -> Attribution:
    """Class activation maps: M_c(i, j) = s sum_k w_ck f_k(i, j), with f what enters the pool and s the logits' scale.

    The mean of M_c over the positions, plus s b_c, is the logit of class c: nothing is left out (Zhou, Khosla,
    Lapedriza, Oliva, Torralba 2016, arXiv 1512.04150, eq. 2).

    Args:
        net: a network that ends in a global average pool and one layer.
        sample: the images.
        classes: which class each map is of (N,); by default the one with the greatest logit.
    """
    net = own(net, "a class activation map")
    if net.spec.pool != "average" or net.spec.stem.kind == "dense":
        raise InputError(f"a class activation map needs the global average pool, which '{net.spec.name}' has not")
    maps, scores, labels = [], [], []
    wanted = [None] * len(sample) if classes is None else classes.split(sample.batch)
    with opened(net):
        for (x, _), given in zip(sample, wanted, strict=False):
            with computing(sample):
                features, logits = _before_the_pool(net, x)
            label = logits.argmax(1) if given is None else given
            weights = net.fc.weight[label].float()  # (N, C)
            maps.append(torch.einsum("nc,nchw->nhw", weights, features.float()) * net.spec.logit_scale)
            scores.append(logits.float().gather(1, label[:, None])[:, 0])
            labels.append(label)
    return _found(sample, labels, scores, maps)


def grad_cam(net: nn.Module, sample: Sample, *, block: str | None = None, classes: Tensor | None = None) -> Attribution:
    """Grad-CAM: ReLU(sum_k a_k f_k), a_k the mean over positions of the class's logit's gradient by f_k.

    f is what leaves a block (Selvaraju et al. 2017, arXiv 1610.02391, eq. 1 and 2). At the last block of a network in
    the original order it is the positive part of the class activation map divided by the number of positions.

    Args:
        net: the network.
        sample: the images.
        block: such as ``layer2.0``; by default the last.
        classes: which class each map is of (N,); by default the one with the greatest logit.
    """
    net = own(net, "Grad-CAM")
    blocks = net.named_blocks
    name = list(blocks)[-1] if block is None else block
    if name not in blocks:
        raise InputError(f"'{net.spec.name}' has no block '{name}'; it has {', '.join(blocks)}")
    if net.spec.stem.kind == "dense":
        raise InputError(f"Grad-CAM needs positions, which the vectors of '{net.spec.name}' have not")
    maps, scores, labels = [], [], []
    wanted = [None] * len(sample) if classes is None else classes.split(sample.batch)
    with opened(net), torch.enable_grad():
        for (x, _), given in zip(sample, wanted, strict=False):
            seen: list[Tensor] = []
            handle = blocks[name].register_forward_hook(lambda _block, _inputs, output, seen=seen: seen.append(output))
            try:
                with computing(sample):
                    logits = net(x.detach().requires_grad_()).float()
            finally:
                handle.remove()
            label = logits.argmax(1) if given is None else given
            score = logits.gather(1, label[:, None])[:, 0]
            (gradient,) = torch.autograd.grad(score.sum(), seen[0])
            weight = gradient.float().mean((2, 3))
            maps.append(torch.einsum("nc,nchw->nhw", weight, seen[0].detach().float()).relu())
            scores.append(score.detach())
            labels.append(label)
    return _found(sample, labels, scores, maps)


def _found(sample: Sample, labels: list[Tensor], scores: list[Tensor], maps: list[Tensor]) -> Attribution:
    label = as_ints(torch.cat(labels).cpu().numpy())
    return Attribution(
        label=label,
        score=as_floats(torch.cat(scores).cpu().numpy()),
        maps=as_floats(torch.cat(maps).cpu().numpy()),
        images=as_floats(_to_look_at(sample.x).cpu().numpy()),
        name=tuple(sample.classes[i] for i in label) if sample.classes else (),
    )


def _to_look_at(x: Tensor) -> Tensor:
    """Normalised images (N, C, H, W) -> (N, H, W, C) in 0 ... 1."""
    step = -(-max(x.shape[2:]) // 64)
    small = nn.functional.avg_pool2d(x.float(), step)
    low, high = small.amin((1, 2, 3), keepdim=True), small.amax((1, 2, 3), keepdim=True)
    return ((small - low) / (high - low).clamp_min(1e-12)).permute(0, 2, 3, 1).double().round(decimals=3)


@torch.no_grad()
def features(net: nn.Module, sample: Sample, stages: tuple[str, ...] = ("pool",)) -> dict[str, Tensor]:
    """Outputs of named stages, in fp32 on the CPU: ``stem``, ``layer1`` ... (N, C, H, W), ``pool`` and ``logits``.

    Raises `InputError` for a stage that is not there.
    """
    net = own(net, "the extraction of features")
    known = ("stem", *net.stage_names, "pool", *(["logits"] if net.has_head else []))
    stages = tuple(dict.fromkeys(stages))
    for stage in stages:
        if stage not in known:
            raise InputError(f"'{net.spec.name}' has no stage '{stage}'; it has {', '.join(known)}")
    parts: dict[str, list[Tensor]] = {stage: [] for stage in stages}
    with opened(net):
        for x, _ in sample:
            with computing(sample):
                found = net.features(x)
            for stage in stages:
                parts[stage].append(found[stage].float().cpu().contiguous())
    return {stage: torch.cat(values) for stage, values in parts.items()}
