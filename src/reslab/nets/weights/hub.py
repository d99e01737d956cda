"""Weights by name: ``torchvision:NAME/VARIANT``, ``timm:NAME.TAG``, ``hf:ORG/NAME``. Each library keeps its cache."""

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from torch import Tensor

from reslab.errors import InputError, nearest
from reslab.nets.reference import timm
from reslab.nets.spec import ReferenceSpec
from reslab.nets.weights.files import read
from reslab.nets.weights.preprocessing import Preprocessing

PREFIXES = ("torchvision:", "timm:", "hf:")
T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    """What a hub knows of some weights."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    reference: ReferenceSpec | None
    """the library's own network, should it be none of ours"""
    said: tuple[str, ...] = ()


def is_hub(source: str) -> bool:
    """Whether this names weights on a hub rather than a file."""
    return source.startswith(PREFIXES)


def fetch(source: str) -> Fetched:
    """Weights from a hub, or from its cache.

    Raises `InputError` for a name that the hub does not have, and without a network for weights that are not
    in the cache: the text names the cache.
    """
    kind, _, rest = source.partition(":")
    if not rest:
        raise InputError(f"'{source}' names no weights; expected such as torchvision:resnet50/IMAGENET1K_V2")
    return {"torchvision": _torchvision, "timm": _timm, "hf": _hugging_face}[kind](rest)


def _reached(source: str, cache: str | Path, get: Callable[[], T]) -> T:
    """What ``get`` returns; whatever goes wrong on the way to a hub is one line that names the cache."""
    try:
        return get()
    except InputError:
        raise
    except Exception as error:  # urllib, httpx, requests and the hub's library have errors of their own
        reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise InputError(
            f"'{source}' could not be fetched ({type(error).__name__}: {reason}) and is not in the cache {cache}; "
            "connect to the network, copy the file into the cache, or give a file of weights"
        ) from None


@contextmanager
def _offline_if_cut_off() -> Iterator[None]:
    """Without a network the hub's library would try for half a minute; then the cache alone is asked."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    host = urlparse(constants.ENDPOINT).hostname or ""
    if not getproxies() and not before:
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _torchvision(rest: str) -> Fetched:
    from torchvision import models

    name, _, variant = rest.partition("/")
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(f"torchvision has no network '{name}'; {nearest(name, known)}")
    family = models.get_model_weights(name)
    variants = [*family.__members__]
    if variant and variant not in variants:
        raise InputError(f"torchvision has no weights '{variant}' for {name}, but {', '.join(variants) or 'none'}")
    if not variants:
        raise InputError(f"torchvision has no weights for {name}")
    weights = family[variant] if variant else family.DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    state: dict[str, Tensor] = _reached(
        f"torchvision:{rest}", folder / weights.url.rpartition("/")[2],
        lambda: weights.get_state_dict(progress=True, check_hash=True),
    )  # fmt: skip
    transform = weights.transforms()
    preprocessing = Preprocessing(
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        crop=(transform.crop_size[0], transform.crop_size[0]),
        resize=transform.resize_size[0],
        interpolation="bicubic" if "bicubic" in str(transform.interpolation).lower() else "bilinear",
    )
    reference = ReferenceSpec(library="torchvision", model=name, name=f"torchvision:{name}", cite="torchvision")
    said = () if variant else (f"torchvision's default weights, {weights.name}",)
    return Fetched(dict(state), {}, preprocessing, tuple(weights.meta["categories"]), reference, said)


def _timm_preprocessing(config: Mapping[str, Any]) -> Preprocessing | None:
    size = config.get("test_input_size") or config.get("input_size")
    if not size or not config.get("mean") or not config.get("std"):
        return None
    crop = int(size[-1])
    share = float(config.get("test_crop_pct") or config.get("crop_pct") or 0.875)
    return Preprocessing(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        crop=(crop, crop),
        resize=int(crop / share),
        interpolation="bicubic" if config.get("interpolation") == "bicubic" else "bilinear",
    )


def _hub_cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _timm(rest: str) -> Fetched:
    library = timm()
    if rest.split(".")[0] not in library.list_models():
        raise InputError(f"timm has no network '{rest}'; {nearest(rest.split('.')[0], library.list_models())}")
    if rest not in library.list_models(pretrained=True) and rest not in library.list_pretrained():
        tags = library.list_pretrained(f"{rest.split('.')[0]}.*")
        raise InputError(f"timm has no weights '{rest}', but {', '.join(tags) or 'none for this network'}")
    with _offline_if_cut_off():
        module = _reached(f"timm:{rest}", _hub_cache(), lambda: library.create_model(rest, pretrained=True))
    config = dict(module.pretrained_cfg)
    reference = ReferenceSpec(
        library="timm", model=rest.split(".")[0], name=f"timm:{rest}", size=tuple(config["input_size"][1:]),
        num_classes=module.num_classes, cite="timm",
    )  # fmt: skip
    said = () if "." in rest else (f"timm's default weights, {config.get('tag', '')}",)
    return Fetched(dict(module.state_dict()), {}, _timm_preprocessing(config), None, reference, said)


def _hugging_face(rest: str) -> Fetched:
    try:
        from huggingface_hub import constants, hf_hub_download, list_repo_files, try_to_load_from_cache
    except ImportError:
        raise InputError("weights named hf:... need the library huggingface_hub: pip install 'reslab[hub]'") from None
    parts = rest.split("/")
    if len(parts) < 2 or not all(parts):
        raise InputError(f"expected hf:ORG/NAME, such as hf:timm/resnet18.a1_in1k, got 'hf:{rest}'")
    repo = "/".join(parts[:2])

    def get(name: str) -> Path | None:
        cached = try_to_load_from_cache(repo, name)
        if isinstance(cached, str):
            return Path(cached)
        if not constants.HF_HUB_OFFLINE and name not in list_repo_files(repo):
            return None
        return Path(hf_hub_download(repo, name))

    names = ["/".join(parts[2:])] if parts[2:] else ["model.safetensors", "pytorch_model.bin"]
    with _offline_if_cut_off():
        file = _reached(f"hf:{rest}", _hub_cache(), lambda: next((f for name in names if (f := get(name))), None))
        if file is None:
            raise InputError(f"hf:{repo} has no file {' or '.join(names)}; name one as hf:{repo}/FILE")
        return described(file, lambda name: _quietly(get, name))


def _quietly(get: Callable[[str], Path | None], name: str) -> Path | None:
    try:
        return get(name)
    except Exception:  # a description that cannot be had is one that is not there
        return None


def described(file: Path, beside: Callable[[str], Path | None]) -> Fetched:
    """Weights of a repository in the layout of the Hugging Face hub, with what its descriptions say."""
    stored = read(file)
    config = _json(beside("config.json"))
    preprocessing, reference = None, None
    if "pretrained_cfg" in config or "architecture" in config:
        inner = config.get("pretrained_cfg") or config
        preprocessing = _timm_preprocessing(inner)
        reference = ReferenceSpec(
            library="timm", model=str(config["architecture"]), name=f"timm:{config['architecture']}",
            num_classes=int(config.get("num_classes", 1000)), cite="timm",
        )  # fmt: skip
    elif "model_type" in config:
        preprocessing = _transformers_preprocessing(_json(beside("preprocessor_config.json")))
    names = config.get("id2label") or config.get("label_names")
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    classes = tuple(map(str, names)) if names else None
    return Fetched(stored.tensors, stored.header, preprocessing, classes, reference, stored.said)


def _transformers_preprocessing(config: Mapping[str, Any]) -> Preprocessing | None:
    if not config.get("image_mean") or not config.get("image_std"):
        return None
    size = config.get("size", 224)
    crop = int(size if isinstance(size, int) else size.get("shortest_edge") or size.get("height", 224))
    share = float(config.get("crop_pct") or 0.875)
    return Preprocessing(
        mean=tuple(config["image_mean"]),
        std=tuple(config["image_std"]),
        crop=(crop, crop),
        resize=int(crop / share),
        interpolation="bicubic" if config.get("resample") == 3 else "bilinear",  # Pillow's number
    )


def _json(path: Path | None) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
