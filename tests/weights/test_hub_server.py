"""Weights fetched over HTTP, from a server on this machine that speaks the hub's protocol: cache, checksum, offline."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
from huggingface_hub import constants, hf_api
from safetensors.torch import save
from torchvision import models

from reslab.errors import InputError
from reslab.weights.files import pickled
from reslab.weights.load import load

from .hub_server import Hub, serving
from .sample import assert_same_output, pictures, scrambled

NET = scrambled(timm.create_model("test_resnet", num_classes=4))
ABOUT = {
    "architecture": "test_resnet", "num_classes": 4,
    "pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 4},
    "label_names": ["ant", "bee", "cow", "dog"],
}  # fmt: skip
FILES = {"me/tiny/model.safetensors": save(NET.state_dict()), "me/tiny/config.json": json.dumps(ABOUT).encode()}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The server in place of the hub, and caches of our own."""
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serving(dict(FILES)) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        monkeypatch.setattr(hf_api.api, "endpoint", hub.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield hub


def complaint(source: str) -> str:
    with pytest.raises(InputError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_fetched_once_and_then_from_the_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = load("hf:me/tiny")
    assert weights.classes == ("ant", "bee", "cow", "dog")
    assert_same_output(NET, weights.network(), pictures(1, 3, 65))
    fetched = [request for request in hub.asked if request.startswith("GET /me/tiny/resolve")]
    assert len(fetched) == 2
    load("hf:me/tiny")
    assert [request for request in hub.asked if request.startswith("GET /me/tiny/resolve")] == fetched
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = list(hub.asked)
    assert load("hf:me/tiny").fingerprint() == weights.fingerprint()
    assert hub.asked == asked, "offline, nobody is asked"


def test_a_connection_that_breaks_off_is_taken_up_again(hub: Hub) -> None:
    hub.cut_after = 3000
    with contextlib.suppress(InputError):  # the hub's library may try again by itself
        load("hf:me/tiny")
    assert hub.broken == 1
    assert_same_output(NET, load("hf:me/tiny").network(), pictures(1, 3, 65))


def test_a_download_that_is_not_what_was_asked_for(hub: Hub, tmp_path: Path) -> None:
    hub.spoil = True
    said = complaint("hf:me/tiny")
    digest = hashlib.sha256(FILES["me/tiny/model.safetensors"]).hexdigest()
    assert "is damaged: its SHA-256 begins with" in said
    assert f"expected {digest[:12]}; delete it, and it will be downloaded again" in said
    hub.spoil = False
    [blob] = (tmp_path / "hub").rglob(digest)
    blob.unlink()
    assert load("hf:me/tiny").spec.num_classes == 4


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:me/other", "'hf:me/other' could not be downloaded"),
        ("hf:me/tiny/none.safetensors", "hf:me/tiny has no file none.safetensors; name one as hf:me/tiny/FILE"),
    ],
)
def test_what_the_hub_does_not_have(source: str, said: str, hub: Hub) -> None:
    assert said in complaint(source)


def of_torchvision(hub: Hub, monkeypatch: pytest.MonkeyPatch, digest: str | None = None) -> Any:
    """torchvision's smallest network with other weights, at an address of the server's."""
    net = scrambled(models.squeezenet1_1())
    content = pickled(net.state_dict())
    name = f"squeezenet1_1-{digest or hashlib.sha256(content).hexdigest()[:8]}.pth"
    hub.files[f"models/{name}"] = content
    monkeypatch.setattr(models.SqueezeNet1_1_Weights.DEFAULT.value, "url", f"{hub.address}/models/{name}")
    return net


def test_torchvision_fetched_with_progress_and_then_from_the_cache(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    net = of_torchvision(hub, monkeypatch)
    weights = load("torchvision:squeezenet1_1")
    assert "100%" in capfd.readouterr().err
    assert_same_output(net, weights.module(), pictures(1, 3, 64))
    load("torchvision:squeezenet1_1")
    assert len(hub.asked) == 1


def test_torchvision_checks_what_it_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    of_torchvision(hub, monkeypatch, "01234567")
    assert "could not be downloaded (RuntimeError: invalid hash value" in complaint("torchvision:squeezenet1_1")
    assert not [path for path in (tmp_path / "torch").rglob("*") if path.is_file()], "nothing is left in the cache"


def test_the_command_with_the_hubs_own_settings(hub: Hub, tmp_path: Path) -> None:
    """``HF_ENDPOINT``, ``HF_HOME`` and ``HF_HUB_OFFLINE``, as people set them."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0",
    }  # fmt: skip

    def command(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "reslab", "weights", *words]
        return subprocess.run(arguments, env=environment | settings, capture_output=True, text=True, check=False)

    fetched = command("fetch", "hf:me/tiny")
    assert fetched.returncode == 0, fetched.stderr
    assert "in the cache" in fetched.stdout
    hub.asked.clear()
    again = command("inspect", "hf:me/tiny", "--json", HF_HUB_OFFLINE="1")
    assert json.loads(again.stdout)["classes"] == ["ant", "bee", "cow", "dog"]
    assert hub.asked == []
