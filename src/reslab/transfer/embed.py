"""Embeddings of images: what a network's last layer takes. Computed once, and kept while neither images nor weights
change."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from reslab.data.images import ImageSet
from reslab.data.loader import Eval
from reslab.data.memo import kept
from reslab.data.photographs import PhotographEval
from reslab.data.stored import Stored
from reslab.data.transforms import Normalizer
from reslab.errors import InputError
from reslab.evaluate.metrics import autocast, evaluating
from reslab.train.partial import last_layer
from reslab.transfer.head import Embeddings
from reslab.weights.preprocessing import Preprocessing

BATCH = 100


def batches_of(
    images: Stored | ImageSet, preprocessing: Preprocessing, *, device: torch.device, workers: int = 0
) -> Eval | PhotographEval:
    """A split as a network is shown it, one centre crop of each image in its order."""
    normalizer = Normalizer.from_values(preprocessing.mean, preprocessing.std)
    if isinstance(images, ImageSet):
        return Eval(images, normalizer, batch=BATCH, device=device)
    return PhotographEval(
        images, normalizer, size=preprocessing.crop, resize=preprocessing.resize or min(preprocessing.crop),
        batch=BATCH, device=device, workers=workers,
    )  # fmt: skip


@contextmanager
def into_head(net: nn.Module) -> Iterator[list[Tensor]]:
    """A list that each forward pass adds the input of the last linear layer to, (n, D)."""
    seen: list[Tensor] = []
    layer = net.get_submodule(last_layer(net))
    handle = layer.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def embeddings_of(net: nn.Module, images: Eval | PhotographEval, *, precision: str, device: torch.device) -> Embeddings:
    """The embedding of each image in its order (N, D), in fp32. Raises `InputError` for an image that is damaged."""
    rows: list[Tensor] = []
    count = 0
    with evaluating(net), into_head(net) as seen:
        for x, labels in images:
            with autocast(device, precision):
                net(x.to(device))
            rows.append(seen.pop().float().cpu())
            count += len(labels)
    if not count == len(images.labels):
        raise InputError(f"{len(images.labels) - count} of {len(images.labels)} images cannot be decoded")
    return torch.cat(rows).numpy() if rows else np.empty((0, 0), np.float32)


def embedded(
    net: nn.Module, images: Stored | ImageSet, preprocessing: Preprocessing, *, precision: str, device: torch.device,
    weights: str, workers: int = 0, cache_dir: Path | None = None,
) -> Embeddings:  # fmt: skip
    """The same for a split, from the cache if its files, the network and all else are as they were.

    Args:
        net: the network, on the device.
        images: in memory at the network's size, or where they lie.
        preprocessing: from an image to the network's input.
        precision: "bf16" or "fp32".
        device: where the network is.
        weights: fingerprint of the weights.
        workers: processes that decode images beside the network.
        cache_dir: where embeddings are kept; by default the user's cache.
    """
    batches = batches_of(images, preprocessing, device=device, workers=workers)
    if isinstance(images, ImageSet):
        return embeddings_of(net, batches, precision=precision, device=device)
    names = hashlib.blake2b(digest_size=16)
    for index in range(len(images.labels)):
        names.update(images.key(index).encode("utf-8", "surrogateescape") + b"\n")
    names.update(images.times().tobytes())
    stamp = (1, weights, preprocessing.model_dump_json(), precision, device.type, torch.__version__, names.hexdigest())
    found = kept(
        cache_dir, "embeddings", stamp,
        lambda: {"rows": embeddings_of(net, batches, precision=precision, device=device)},
    )  # fmt: skip
    rows: Embeddings = found["rows"]
    return rows
