"""Weights by name: ``reslab:NAME``, ``torchvision:NAME/VARIANT``, ``timm:NAME.TAG``, ``hf:ORG/NAME``.

Ours come with the package; of the others each library keeps its cache.
"""

import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse
from urllib.request import getproxies

import torch
from pydantic import ValidationError
from torch import Tensor

from reslab.errors import InputError, nearest
from reslab.nets.reference import timm
from reslab.nets.spec import Bottleneck, NetSpec, ReferenceSpec
from reslab.weights import shipped
from reslab.weights.files import read
from reslab.weights.names import Which
from reslab.weights.preprocessing import Preprocessing
from reslab.weights.shapes import Unrecognised

T = TypeVar("T")


@dataclass(frozen=True)
class Fetched:
    """Weights as downloaded from a hub, with what the hub says about them."""

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    preprocessing: Preprocessing | None
    classes: tuple[str, ...] | None
    reference: ReferenceSpec | None
    """the library's own network, should it be none of ours"""
    said: tuple[str, ...] = ()
    adjust: Callable[[NetSpec], NetSpec] | None = None
    """what the hub's description of the network adds to names and shapes"""
    which: Which | None = None
    """average or not, where the file says"""


def fetch(source: str, which: Which | None = None) -> Fetched:
    """Weights from a hub, or from its cache; ``which`` of those in a file, where it holds several.

    Raises `InputError` for a name that the hub does not have, and without a network for weights that are not
    in the cache: the text names the cache.
    """
    kind, _, rest = source.partition(":")
    if not rest:
        raise InputError(f"'{source}' does not name weights; give a name such as torchvision:resnet50/IMAGENET1K_V2")
    if kind == "hf":
        return _hugging_face(rest, which)
    return {"reslab": _shipped, "torchvision": _torchvision, "timm": _timm}[kind](rest)


def _reached(source: str, cache: str | Path, get: Callable[[], T], bring: str) -> T:
    """Calls ``get``; turns any download error into one line that says how to ``bring`` the file."""
    try:
        return get()
    except InputError:
        raise
    except Exception as error:  # urllib, httpx, requests and the hub's library have errors of their own
        reason = (str(error).splitlines() or [""])[0].split(". ")[0][:200]
        raise InputError(
            f"'{source}' could not be downloaded ({type(error).__name__}: {reason}) and is not in the cache "
            f"{cache}; connect to the network, or {bring}"
        ) from None


@contextmanager
def _offline_if_cut_off() -> Iterator[None]:
    """Uses only the cache if there is no network, since the hub's library would retry for half a minute."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    host = urlparse(constants.ENDPOINT).hostname or ""
    if not before and not {"http", "https", "all"} & getproxies().keys():
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _shipped(rest: str) -> Fetched:
    return described(shipped.file(rest), lambda name: None)


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
    if name in ("googlenet", "inception_v3"):
        raise InputError(
            f"torchvision's {name} scales its input inside the network, which Reslab does not; choose another network"
        )
    weights = family[variant] if variant else family.DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    if not file.is_file():
        bring = f"download {weights.url} elsewhere and put it there"
        _reached(f"torchvision:{rest}", file, lambda: _download(weights.url, file), bring)
    # Read by us: torchvision would unpickle whatever lies in its cache.
    stored = read(file)
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
    return Fetched(stored.tensors, {}, preprocessing, tuple(weights.meta["categories"]), reference, said)


def _download(url: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    digits = re.search(r"-([a-f0-9]+)\.", file.name)  # of the content's SHA-256, by the library's convention
    torch.hub.download_url_to_file(url, str(file), hash_prefix=digits[1] if digits else None)


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


def _bring(repo: str, files: str = "") -> str:
    """How the files of a repository come to a machine without a network."""
    command = " ".join(("hf download", repo, *([files] if files else []), "--local-dir FOLDER"))
    return f"run '{command}' on another machine, copy the folder here, and name it instead"


def _intact(file: Path) -> Path:
    """A file of the hub's cache, checked: the cache calls a large file by the SHA-256 of its content.

    The hub's library compares sizes alone, and a damaged download would be taken for the weights for good.
    """
    blob = file.resolve()
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        with blob.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != blob.name:
            raise InputError(
                f"{blob} is damaged: its SHA-256 begins with {found[:12]}, expected {blob.name[:12]}; delete it, and "
                "it will be downloaded again"
            )
    return file


def _hub_cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _timm(rest: str) -> Fetched:
    library = timm()
    if rest.split(".")[0] not in library.list_models():
        raise InputError(f"timm has no network '{rest}'; {nearest(rest.split('.')[0], library.list_models())}")
    if not library.is_model_pretrained(rest):
        tags = library.list_pretrained(f"{rest.split('.')[0]}.*")
        raise InputError(f"timm has no weights '{rest}', but {', '.join(tags) or 'none for this network'}")
    with _offline_if_cut_off():
        repo = library.get_pretrained_cfg(rest).hf_hub_id or ""
        bring = _bring(repo) if repo else "give a file of weights"
        module = _reached(f"timm:{rest}", _hub_cache(), lambda: library.create_model(rest, pretrained=True), bring)
    config = dict(module.pretrained_cfg)
    reference = ReferenceSpec(
        library="timm", model=rest.split(".")[0], name=f"timm:{rest}", in_channels=config["input_size"][0],
        size=tuple(config["input_size"][1:]), num_classes=module.num_classes, cite="timm",
    )  # fmt: skip
    said = () if "." in rest else (f"timm's default weights, {config.get('tag', '')}",)
    return Fetched(dict(module.state_dict()), {}, _timm_preprocessing(config), None, reference, said)


def _hugging_face(rest: str, which: Which | None) -> Fetched:
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

    def find() -> Path | None:
        # The cache first, for all names: without a network nothing else can be asked.
        cached = (try_to_load_from_cache(repo, name) for name in names)
        there = next((Path(file) for file in cached if isinstance(file, str)), None)
        return there or next((file for name in names if (file := get(name))), None)

    with _offline_if_cut_off():
        file = _reached(f"hf:{rest}", _hub_cache(), find, _bring(repo, "/".join(parts[2:])))
        if file is None:
            raise InputError(f"hf:{repo} has no file {' or '.join(names)}; name one as hf:{repo}/FILE")
        return described(_intact(file), lambda name: _quietly(get, name), which)


def _quietly(get: Callable[[str], Path | None], name: str) -> Path | None:
    try:
        return get(name)
    except Exception:  # a description that cannot be had is one that is not there
        return None


def described(file: Path, beside: Callable[[str], Path | None], which: Which | None = None) -> Fetched:
    """Weights of a repository in the layout of the Hugging Face hub, with what its descriptions say."""
    stored = read(file, which)
    bare = Fetched(stored.tensors, stored.header, None, None, None, stored.said, which=stored.which)
    config = _json(beside("config.json"))
    try:
        return _as_described(bare, config, beside)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        # Weights are worth more than their description, which anybody may have written.
        return replace(bare, said=(*bare.said, "its config.json was not understood and is ignored"))


def _as_described(bare: Fetched, config: dict[str, Any], beside: Callable[[str], Path | None]) -> Fetched:
    preprocessing, reference, adjust = None, None, None
    if "architecture" in config:
        inner = config.get("pretrained_cfg") or config
        preprocessing = _timm_preprocessing(inner)
        channels, *size = inner.get("input_size") or (3, 224, 224)
        reference = ReferenceSpec(
            library="timm", model=str(config["architecture"]), name=f"timm:{config['architecture']}",
            in_channels=channels, size=tuple(size), num_classes=int(config.get("num_classes", 1000)), cite="timm",
        )  # fmt: skip
    elif "model_type" in config:
        preprocessing = _transformers_preprocessing(_json(beside("preprocessor_config.json")))
        if config["model_type"] == "resnet":
            adjust = _as_configured(config)
    names = config.get("id2label") or config.get("label_names")
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names, key=int)]
    classes = tuple(map(str, names)) if names else None
    return replace(bare, preprocessing=preprocessing, classes=classes, reference=reference, adjust=adjust)


def _as_configured(config: Mapping[str, Any]) -> Callable[[NetSpec], NetSpec]:
    """Reads from transformers' config.json what a ResNet's names and shapes do not determine."""
    stride_on = "first" if config.get("downsample_in_bottleneck") else "middle"

    def adjust(spec: NetSpec) -> NetSpec:
        stages = [list(stage) for stage in spec.stages]
        if config.get("downsample_in_first_stage"):
            stages[0][0] = stages[0][0].model_copy(update={"stride": 2})
        for stage in stages:
            for i, block in enumerate(stage):
                if isinstance(block.branch, Bottleneck):
                    branch = block.branch.model_copy(update={"stride_on": stride_on})
                    stage[i] = block.model_copy(update={"branch": branch})
        if config.get("hidden_act", "relu") != "relu":  # theirs is for some of the activations, and ReLU the others
            raise Unrecognised(
                f"its config.json sets the activation '{config['hidden_act']}' for some of the layers only"
            )
        try:
            return NetSpec.model_validate({**dict(spec), "stages": stages})
        except ValidationError as error:
            raise Unrecognised(f"its config.json describes another network: {error.errors()[0]['msg']}") from None

    return adjust


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
    except (ValueError, OSError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
