"""A small network, written once in each format for each kind of input."""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.networks import images, trained
from reslab.deploy.artefact import About, Artefact, Checked, Input, read, seal, written
from reslab.deploy.export import (
    FILES,
    HEAD,
    head_of,
    onnx_of,
    openvino_of,
    program_of,
    write_onnx,
    write_openvino,
    write_torch,
)
from reslab.deploy.runtimes import ways
from reslab.nets import build
from reslab.nets.network import Network
from reslab.weights.preprocessing import Preprocessing

HOW = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop=(32, 32), resize=36)
CLASSES = ("ant", "bee", "cat", "dög")


@dataclass(frozen=True)
class Exported:
    """The network, and the artefact of it."""

    net: Network
    artefact: Artefact


def passed(about: About) -> About:
    """With a gate that every runtime went through."""
    rows = tuple(
        Checked(runtime=way.name, precision=way.precision, images=1, largest_difference={1: 0}, agreement=100)
        for way in ways(about)
    )
    return about.model_copy(update={"gate": rows})


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exported]:
    """Makes an artefact in all three formats, once a session for each kind of input, without maps and with."""
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(name, reason="the extra [deploy] is not installed")
    net = build("cifar_resnet(depth=8, width=8)", num_classes=len(CLASSES), seed=1)
    trained(net)
    with torch.no_grad():
        net.fc.bias.zero_()
        net.fc.weight *= 3 / net(images(8)).abs().max()  # neither sure of anything nor of nothing
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # of all workers of this session

    def get(kind: Input, maps: bool = False) -> Exported:
        target = folder / "artefacts" / (f"{kind}-maps" if maps else kind)
        target.parent.mkdir(exist_ok=True)
        with target.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                export(target, kind, maps)
        return Exported(net, read(target))

    def export(target: Path, kind: Input, maps: bool) -> None:
        about = About(
            net=net.spec.name, spec=net.spec, num_classes=len(CLASSES), channels=3, classes=CLASSES, input=kind,
            preprocessing=HOW, models=FILES, provenance={"weights": "a test"}, head=HEAD if maps else None,
        )  # fmt: skip
        program = program_of(net, net.spec, HOW, kind, maps=maps)
        model = onnx_of(program, about.inside())
        with written(target) as folder:
            if maps:
                np.save(folder / HEAD, head_of(net))
            write_torch(program, folder, about.inside())
            write_onnx(model, folder)
            write_openvino(openvino_of(model), folder, about.inside())
            seal(folder, passed(about))

    return get
