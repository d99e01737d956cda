"""Weights by name, from caches made by hand: no test asks the network for anything."""

import json
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import nn
from torchvision import models

from reslab.data.decode.whole import Fit, fitted
from reslab.errors import InputError
from reslab.nets.spec import Bottleneck, NetSpec, ReferenceSpec
from reslab.weights.hub import _timm_preprocessing
from reslab.weights.load import load
from reslab.weights.preprocessing import Preprocessing

from .repositories import Transformers
from .sample import armed, assert_same_output, pictures, saved, scrambled

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of our own; nothing listens on the discard port, and the hub is told to be offline."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # which remembers the proxies of its first use
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def cached_by_torch(tmp_path: Path, family: Any, variant: str = "DEFAULT") -> Path:
    """Where torchvision keeps the weights."""
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / str(family[variant].url).rpartition("/")[2]


def cached_by_the_hub(tmp_path: Path, repo: str, files: Mapping[str, Callable[[Path], object]]) -> Path:
    """A repository in the layout of the hub's cache; each file is made by a function."""
    folder = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
    revision = "0123456789012345678901234567890123456789"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    for name, make in files.items():
        make(snapshot / name)
    return snapshot


def state(net: nn.Module) -> Callable[[Path], object]:
    return lambda path: (
        save_file(net.state_dict(), path) if path.suffix == ".safetensors" else saved(path, net.state_dict())
    )


def text(value: object) -> Callable[[Path], object]:
    return lambda path: path.write_text(value if isinstance(value, str) else json.dumps(value))


def complaint(source: str) -> str:
    with pytest.raises(InputError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- torchvision ---


def test_torchvision(tmp_path: Path) -> None:
    net = scrambled(models.resnet18())
    torch.save(net.state_dict(), cached_by_torch(tmp_path, models.ResNet18_Weights))
    for name in ("torchvision:resnet18", "torchvision:resnet18/IMAGENET1K_V1", "torchvision:resnet18/DEFAULT"):
        weights = load(name)
        assert weights.spec.name == "resnet18"
        assert weights.certain
        assert weights.preprocessing == Preprocessing(**IMAGENET, crop=(224, 224), resize=256)
        assert weights.classes is not None
        assert weights.classes[:2] == ("tench", "goldfish")
        assert weights.said == (("torchvision's default weights, IMAGENET1K_V1",) if "/" not in name else ())
    assert_same_output(net, weights.network(), pictures(1, 3, 64))


def test_the_second_weights_of_torchvision_have_another_preprocessing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = scrambled(models.resnet50())
    torch.save(net.state_dict(), cached_by_torch(tmp_path, models.ResNet50_Weights, "IMAGENET1K_V2"))
    weights = load("torchvision:resnet50/IMAGENET1K_V2")
    assert weights.preprocessing is not None
    assert (weights.preprocessing.resize, weights.preprocessing.crop) == (232, (224, 224))
    assert weights.assumed == (), "torchvision's are v1.5, and nothing is left to guess"
    assert load("torchvision:resnet50/IMAGENET1K_V2", net="resnet50-v1").spec.name == "resnet50-v1"
    assert "has the same names and shapes, but computes something else" in caplog.text


def test_another_network_of_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = scrambled(models.squeezenet1_1())
    torch.save(net.state_dict(), cached_by_torch(tmp_path, models.SqueezeNet1_1_Weights))
    weights = load("torchvision:squeezenet1_1")
    assert isinstance(weights.spec, ReferenceSpec)
    assert weights.said[-1].startswith("run by torchvision's own code, since no residual network that Reslab can")
    assert_same_output(net, weights.module(), pictures(1, 3, 64))


def test_torchvisions_cache_is_not_trusted(tmp_path: Path) -> None:
    payload, marker = armed(tmp_path)
    path = cached_by_torch(tmp_path, models.ResNet18_Weights)
    torch.save({"state_dict": models.resnet18().state_dict(), "extra": payload}, path)
    assert f"{path} holds more than tensors" in complaint("torchvision:resnet18")
    assert not marker.exists()
    path.write_bytes(path.read_bytes()[:5000])
    assert f"{path} is not a whole file of weights" in complaint("torchvision:resnet18")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("torchvision:resnet51", "torchvision has no network 'resnet51'; did you mean 'resnet50'?"),
        ("torchvision:resnet50/V9", "torchvision has no weights 'V9' for resnet50, but IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:", "does not name weights; give a name such as torchvision:resnet50/IMAGENET1K_V2"),
        ("torchvision:googlenet", "scales its input inside the network"),
        ("timm:resnet51", "timm has no network 'resnet51'; did you mean 'resnet"),
        ("timm:resnet18.mine", "timm has no weights 'resnet18.mine', but resnet18.a1_in1k, "),
        ("timm:resnetblur101d", "timm has no weights 'resnetblur101d', but none for this network"),
        ("timm:", "does not name weights"),
        ("hf:resnet18", "expected hf:ORG/NAME, such as hf:timm/resnet18.a1_in1k, got 'hf:resnet18'"),
        ("hf:a//b", "expected hf:ORG/NAME"),
        ("hf:../x", "'hf:../x' could not be downloaded"),
    ],
)
def test_names_of_nothing(name: str, said: str) -> None:
    assert said in complaint(name)


@pytest.mark.parametrize(
    ("name", "cache", "bring"),
    [
        ("torchvision:resnet50", "torch/hub/checkpoints/resnet50-11ad3fa6.pth", "/resnet50-11ad3fa6.pth elsewhere and"),
        (
            "timm:resnet50.a1_in1k",
            "hub",
            "run 'hf download timm/resnet50.a1_in1k --local-dir FOLDER' on another",
        ),
        ("timm:resnet50", "hub", "run 'hf download timm/resnet50.a1_in1k --local-dir FOLDER' on another"),
        (
            "hf:microsoft/resnet-50",
            "hub",
            "run 'hf download microsoft/resnet-50 --local-dir FOLDER' on another",
        ),
        (
            "hf:some/net/b.safetensors",
            "hub",
            "run 'hf download some/net b.safetensors --local-dir FOLDER' on another",
        ),
    ],
)
def test_without_a_network_the_error_says_how_to_bring_the_file(
    name: str, cache: str, bring: str, tmp_path: Path
) -> None:
    said = complaint(name)
    assert f"'{name}' could not be downloaded (" in said
    assert f"is not in the cache {tmp_path / cache}" in said
    assert "connect to the network, or " in said
    assert bring in said
    assert not list((tmp_path / "torch").rglob("*.p*"))


def test_cut_off_from_the_network_the_cache_alone_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own library would try again and again for half a minute."""

    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.delenv(variable)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    assert f"is not in the cache {tmp_path / 'hub'}" in complaint("hf:microsoft/resnet-50")
    assert constants.HF_HUB_OFFLINE is False, "the setting is put back"
    cached_by_the_hub(tmp_path, "some/net", {"pytorch_model.bin": state(models.resnet18(num_classes=3))})
    assert load("hf:some/net").spec.num_classes == 3


# --- timm ---


def test_timm(tmp_path: Path) -> None:
    net = scrambled(timm.create_model("test_resnet"))
    cached_by_the_hub(tmp_path, "timm/test_resnet.r160_in1k", {"model.safetensors": state(net)})
    weights = load("timm:test_resnet.r160_in1k")
    assert isinstance(weights.spec, NetSpec)
    assert weights.certain
    assert weights.assumed == ()
    half = (0.5, 0.5, 0.5)
    assert weights.preprocessing == Preprocessing(mean=half, std=half, crop=(160, 160), resize=168)
    assert_same_output(net, weights.network(), pictures(1, 3, 65))
    assert load("timm:test_resnet").said == ("timm's default weights, r160_in1k",)


def test_timm_by_the_name_of_its_weights(tmp_path: Path) -> None:
    net = scrambled(timm.create_model("resnet18"))
    cached_by_the_hub(tmp_path, "timm/resnet18.a1_in1k", {"pytorch_model.bin": state(net)})
    weights = load("timm:resnet18.a1_in1k")
    assert (weights.spec.name, weights.said) == ("resnet18", ())
    assert weights.preprocessing == Preprocessing(**IMAGENET, crop=(288, 288), resize=288, interpolation="bicubic")


def test_networks_that_only_look_like_ours_are_run_by_timm(tmp_path: Path) -> None:
    """Blurred subsampling has no parameters to see: names and shapes are those of resnet50, the output is not."""
    net = scrambled(timm.create_model("resnetblur50"))
    cached_by_the_hub(tmp_path, "timm/resnetblur50.bt_in1k", {"model.safetensors": state(net)})
    weights = load("timm:resnetblur50.bt_in1k")
    assert isinstance(weights.spec, ReferenceSpec)
    assert weights.said == (
        "run by timm's own code, since from the same weights Reslab's 'resnet50' computes something else",
    )
    assert_same_output(net, weights.module(), pictures(1, 3, 64))


def test_what_timm_runs_may_be_put_into_ours_on_purpose(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net = scrambled(timm.create_model("resnetaa34d"))
    described = TIMM | {"architecture": "resnetaa34d", "num_classes": 1000}
    cached_by_the_hub(tmp_path, "me/aa", {"model.safetensors": state(net), "config.json": text(described)})
    weights = load("hf:me/aa", net="imagenet_resnet(depth=34, stem='deep', downsample='pool')")
    assert isinstance(weights.spec, NetSpec)
    assert weights.said == ()
    assert "'timm:resnetaa34d'" in caplog.text
    assert "computes something else than timm's code" in caplog.text
    with pytest.raises(AssertionError):
        assert_same_output(net, weights.network(), pictures(1, 3, 64))
    with pytest.raises(InputError, match="does not fit 'resnet34'"):
        load("hf:me/aa", net="resnet34")


def test_timms_cache_is_not_trusted(tmp_path: Path) -> None:
    payload, marker = armed(tmp_path)
    net = timm.create_model("test_resnet")
    cached_by_the_hub(
        tmp_path,
        "timm/test_resnet.r160_in1k",
        {"pytorch_model.bin": lambda path: saved(path, net.state_dict() | {"extra": payload})},
    )
    assert "'timm:test_resnet.r160_in1k' could not be downloaded" in complaint("timm:test_resnet.r160_in1k")
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "resnet18.a1_in1k",
        "resnet50.gluon_in1k",
        "resnet50d.ra4_e3600_r224_in1k",
        "resnetv2_50d_gn.ah_in1k",
        "resnet101.a1h_in1k",
        "test_resnet.r160_in1k",
    ],
)
@pytest.mark.parametrize("size", [(333, 500), (640, 301)])
def test_pixels_are_those_of_timms_evaluation(name: str, size: tuple[int, int]) -> None:
    """Its own transforms against what `eval` does by the same description."""
    described = timm.get_pretrained_cfg(name)
    assert described is not None
    config = described.to_dict()  # type: ignore[no-untyped-call]
    found = _timm_preprocessing(config)
    assert found is not None
    arguments = resolve_data_config(pretrained_cfg=config, use_test_size=True)  # type: ignore[no-untyped-call]
    theirs = create_transform(**arguments, is_training=False)
    pixels = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert found.resize is not None
    ours = fitted(pixels, Fit(found.crop, found.resize, found.interpolation))
    image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    expected = theirs(image)
    got = (ours[0] / 255 - torch.tensor(found.mean).view(3, 1, 1)) / torch.tensor(found.std).view(3, 1, 1)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


# --- Hugging Face ---

TIMM = {
    "architecture": "test_resnet",
    "num_classes": 4,
    "pretrained_cfg": {
        "input_size": [3, 64, 64], "crop_pct": 0.9, "interpolation": "bicubic", **IMAGENET, "num_classes": 4,
    },
    "label_names": ["ant", "bee", "cow", "dog"],
}  # fmt: skip


def test_a_repository_of_timm(tmp_path: Path) -> None:
    net = scrambled(timm.create_model("test_resnet", num_classes=4))
    cached_by_the_hub(tmp_path, "me/tiny", {"model.safetensors": state(net), "config.json": text(TIMM)})
    weights = load("hf:me/tiny")
    assert isinstance(weights.spec, NetSpec)
    assert weights.certain
    assert weights.preprocessing == Preprocessing(**IMAGENET, crop=(64, 64), resize=71, interpolation="bicubic")
    assert weights.classes == ("ant", "bee", "cow", "dog")
    assert_same_output(net, weights.network(), pictures(1, 3, 65))


def test_a_repository_of_a_network_that_is_not_ours(tmp_path: Path) -> None:
    net = scrambled(timm.create_model("test_vit", num_classes=4, img_size=64))
    about = TIMM | {"architecture": "test_vit"}
    cached_by_the_hub(tmp_path, "me/vit", {"model.safetensors": state(net), "config.json": text(about)})
    weights = load("hf:me/vit")
    assert isinstance(weights.spec, ReferenceSpec)
    assert (weights.spec.model, weights.spec.size) == ("test_vit", (64, 64))
    assert_same_output(net, weights.module(), pictures(1, 3, 64))


def test_without_timm_a_repository_is_recognised_and_says_what_it_assumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = timm.create_model("test_resnet", num_classes=4)
    cached_by_the_hub(tmp_path, "me/tiny", {"model.safetensors": state(net), "config.json": text(TIMM)})
    monkeypatch.setitem(sys.modules, "timm", None)
    weights = load("hf:me/tiny")
    assert isinstance(weights.spec, NetSpec)
    assert not weights.certain
    assert weights.assumed
    assert "need the library timm: pip install 'reslab[compare]'" in complaint("timm:test_resnet")


RESNET = {
    "model_type": "resnet",
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "id2label": {"10": "k", "0": "a", **{str(i): "bcdefghij"[i - 1] for i in range(1, 10)}},
}
PROCESSOR = {"image_mean": IMAGENET["mean"], "image_std": IMAGENET["std"], "resample": 3, "crop_pct": 0.875}


@pytest.mark.parametrize("in_bottleneck", [False, True])
@pytest.mark.parametrize("in_first_stage", [False, True])
def test_a_repository_of_transformers(in_bottleneck: bool, in_first_stage: bool, tmp_path: Path) -> None:
    net = scrambled(
        Transformers(
            (1, 2, 1, 1), (64, 128, 256, 512), in_bottleneck=in_bottleneck, in_first_stage=in_first_stage, classes=11
        )
    )
    about = RESNET | {"downsample_in_bottleneck": in_bottleneck, "downsample_in_first_stage": in_first_stage}
    cached_by_the_hub(
        tmp_path,
        "me/resnet",
        {
            "pytorch_model.bin": state(net),
            "config.json": text(about),
            "preprocessor_config.json": text(PROCESSOR | {"size": {"shortest_edge": 224}}),
        },
    )
    weights = load("hf:me/resnet")
    assert weights.certain
    assert weights.said == ()
    assert weights.dialect == "transformers"
    assert weights.classes == tuple("abcdefghijk")
    assert weights.preprocessing == Preprocessing(**IMAGENET, crop=(224, 224), resize=256, interpolation="bicubic")
    assert_same_output(net, weights.network(), pictures(1, 3, 64))


def test_transformers_resnet50_has_our_name_for_it(tmp_path: Path) -> None:
    net = Transformers()
    for in_bottleneck, name in ((False, "resnet50"), (True, "resnet50-v1")):
        about = RESNET | {"downsample_in_bottleneck": in_bottleneck, "id2label": None}
        files = {"model.safetensors": state(net), "config.json": text(about)}
        cached_by_the_hub(tmp_path, "me/resnet50", files)
        weights = load("hf:me/resnet50")
        assert weights.spec.name == name
        assert isinstance(weights.spec, NetSpec)
        branch = weights.spec.stages[1][0].branch
        assert isinstance(branch, Bottleneck)
        assert branch.stride_on == ("first" if in_bottleneck else "middle")
        assert weights.preprocessing is None


def test_activations_that_only_transformers_has(tmp_path: Path) -> None:
    net = Transformers((1, 1, 1, 1), (64, 128, 256, 512))
    about = RESNET | {"hidden_act": "gelu"}
    cached_by_the_hub(tmp_path, "me/gelu", {"model.safetensors": state(net), "config.json": text(about)})
    assert "its config.json sets the activation 'gelu'" in complaint("hf:me/gelu")


@pytest.mark.parametrize(
    "about",
    [
        "{",
        "[]",
        "[" * 100_000,
        "\xff",
        {"architecture": "test_resnet", "num_classes": "many"},
        {"architecture": "test_resnet", "pretrained_cfg": {"input_size": 3, "mean": 1, "std": 2}},
        {"architecture": "test_resnet", "pretrained_cfg": {"input_size": [3, 8, 8], "mean": [0], "std": [0]}},
        {"architecture": "test_resnet", "pretrained_cfg": "none"},
        {"pretrained_cfg": {}},
        {"model_type": "resnet", "id2label": {"a": "b"}},
        {"model_type": "resnet", "id2label": 7},
        {"label_names": 7},
    ],
)
def test_odd_descriptions_are_left_aside(about: object, tmp_path: Path) -> None:
    net = scrambled(timm.create_model("test_resnet"))
    snapshot = cached_by_the_hub(tmp_path, "me/odd", {"model.safetensors": state(net)})
    if about == "\xff":
        (snapshot / "config.json").write_bytes(b"\xff\xfe{")
    else:
        text(about)(snapshot / "config.json")
    weights = load("hf:me/odd")
    assert weights.preprocessing is None
    assert weights.classes is None
    assert_same_output(net, weights.network(), pictures(1, 3, 65))


def test_a_file_of_a_repository_and_a_folder_like_one(tmp_path: Path) -> None:
    net = scrambled(timm.create_model("test_resnet", num_classes=4))
    snapshot = cached_by_the_hub(tmp_path, "me/many", {"other.safetensors": state(net), "config.json": text(TIMM)})
    weights = load("hf:me/many/other.safetensors")
    assert weights.classes == ("ant", "bee", "cow", "dog")
    (snapshot / "other.safetensors").rename(snapshot / "model.safetensors")
    local = load(snapshot)
    assert local.spec == weights.spec
    assert (local.classes, local.preprocessing) == (weights.classes, weights.preprocessing)


def test_our_own_files_on_the_hub(tmp_path: Path) -> None:
    from .test_load import PREPROCESSING, ours

    path, net = ours(tmp_path / "w.safetensors")
    cached_by_the_hub(tmp_path, "me/ours", {"model.safetensors": lambda to: to.write_bytes(path.read_bytes())})
    weights = load("hf:me/ours")
    assert weights.spec == net.spec
    assert weights.preprocessing == PREPROCESSING


def test_a_hostile_file_on_the_hub(tmp_path: Path) -> None:
    payload, marker = armed(tmp_path)
    cached_by_the_hub(tmp_path, "me/evil", {"pytorch_model.bin": lambda path: saved(path, {"a": payload})})
    assert "it was refused, and none of it was run" in complaint("hf:me/evil")
    assert not marker.exists()
