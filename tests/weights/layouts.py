"""What other programs save: a network's weights as each of them lays them out in a file.

A layout is a function from a state dict under torchvision's names to what the program hands to ``torch.save``. The
dictionaries are those of the programs' own source; classes that are not installed here are made under their names.
"""

import argparse
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

State = Mapping[str, Tensor]
Layout = Callable[[State], dict[str, Any]]

ARGS = argparse.Namespace(
    model="resnet18", lr=0.5, data_path=Path("/data/imagenet"), device="cuda", mean=(0.485, 0.456, 0.406), resume=None
)


def other(state: State, by: float = 1.0) -> dict[str, Tensor]:
    """Weights of the same names that are not these."""
    return {name: tensor + by if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def prefixed(state: State, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def _optimizer() -> dict[str, Any]:
    """The state of a real optimizer and schedule that have taken a step."""
    layer = nn.Linear(2, 2)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.SequentialLR(
        sgd,
        [
            torch.optim.lr_scheduler.LinearLR(sgd, start_factor=0.01, total_iters=5),
            torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=9),
        ],
        milestones=[5],
    )
    layer(torch.ones(1, 2)).sum().backward()
    sgd.step()
    schedule.step()
    return {"optimizer": sgd.state_dict(), "lr_scheduler": schedule.state_dict()}


def torchvision_script(state: State) -> dict[str, Any]:
    """references/classification/train.py, with --amp, without --model-ema."""
    return {"model": dict(state), **_optimizer(), "epoch": 89, "args": ARGS, "scaler": {"scale": 65536.0}}


def timm_script(state: State) -> dict[str, Any]:
    """timm's CheckpointSaver; its metric was numpy's number for years."""
    return {
        "epoch": 3, "arch": "resnet18", "state_dict": dict(state), **_optimizer(), "version": 2, "args": ARGS,
        "amp_scaler": {"scale": 1.0}, "metric": np.float64(71.3),
    }  # fmt: skip


def lightning(state: State) -> dict[str, Any]:
    """A LightningModule with ``self.model`` and a weighted loss ``self.criterion``."""
    return {
        "epoch": 1, "global_step": 100, "pytorch-lightning_version": "2.6.0",
        "state_dict": OrderedDict({"criterion.weight": torch.ones(10), **prefixed(state, "model.")}),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_acc'}": {"best_model_score": torch.tensor(0.9), "kth": {}}},
        "optimizer_states": [_optimizer()["optimizer"]], "lr_schedulers": [_optimizer()["lr_scheduler"]],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 0.1, "root": Path("data")},
    }  # fmt: skip


def mmpretrain(state: State) -> dict[str, Any]:
    body = {f"backbone.{name}": tensor for name, tensor in state.items() if not name.startswith("fc.")}
    head = {f"head.{name}": tensor for name, tensor in state.items() if name.startswith("fc.")}
    history = np.arange(3.0)
    return {
        "meta": {"epoch": 100, "dataset_meta": {"classes": ["a", "b"]}, "seed": 1},
        "state_dict": OrderedDict(body | head),
        "message_hub": {"log_scalars": {"train/loss": history}, "runtime_info": {}},
        "param_schedulers": [],
    }


def averaged_model(state: State) -> dict[str, Any]:
    """The state dict of `torch.optim.swa_utils.AveragedModel`, as its own code names it."""
    average = AveragedModel(nn.Linear(1, 1), multi_avg_fn=get_ema_multi_avg_fn(0.99))
    names = list(average.state_dict())
    assert names == ["n_averaged", "module.weight", "module.bias"]
    return {"n_averaged": torch.tensor(7), **prefixed(state, "module.")}


def odds_and_ends(state: State) -> dict[str, Any]:
    """What people add to their own: numbers of numpy, histories, paths, an optimizer as a whole."""
    layer = nn.Linear(2, 2)
    return {
        "net": dict(state), "best_acc": np.float32(0.9), "epoch": np.int64(3), "curve": np.linspace(0, 1, 5),
        "history": defaultdict(list, {"loss": [1.0]}), "last": deque([1, 2]),
        "rng": np.random.RandomState(3).get_state(),
        "optimizer": torch.optim.SGD(layer.parameters(), lr=0.1), "out": Path("runs"),
    }  # fmt: skip


PLAIN: dict[str, Layout] = {
    "as it is": dict,
    "DataParallel": lambda state: {"state_dict": prefixed(state, "module.")},
    "torch.compile": lambda state: prefixed(state, "_orig_mod."),
    "DDP of a compiled network": lambda state: {"model": prefixed(state, "module._orig_mod.")},
    "a compiled stage": lambda state: {name.replace("layer1.", "layer1._orig_mod."): t for name, t in state.items()},
    "FSDP": lambda state: {
        re_name: t for name, t in state.items() for re_name in [name.replace("layer1.", "layer1._fsdp_wrapped_module.")]
    },
    "nested": lambda state: {"state_dict": prefixed(state, "model.backbone.")},
    "an encoder": lambda state: {"model_state_dict": prefixed(state, "encoder."), "epoch": 3},
    "in any wrapper": lambda state: prefixed(state, "trunk.net."),
    "torchvision's script": torchvision_script,
    "timm's script": timm_script,
    "Lightning": lightning,
    "mmpretrain": mmpretrain,
    "AveragedModel": averaged_model,
    "torchvision's average alone": lambda state: {"model_ema": averaged_model(state), "epoch": 2},
    "odds and ends": odds_and_ends,
    "fine-tuned, dropout before the last layer": lambda state: {
        name.replace("fc.", "fc.1."): tensor for name, tensor in state.items()
    },
    "nn.Sequential(net, Flatten, Linear)": lambda state: {
        ("2." + name.removeprefix("fc.") if name.startswith("fc.") else "0." + name): t for name, t in state.items()
    },
    "epoch among the tensors": lambda state: {**state, "epoch": 7, "acc": 0.5},
}
"""Layouts with one set of weights."""

PAIRS: dict[str, tuple[str, Callable[[State, State], dict[str, Any]]]] = {
    "timm's script": ("state_dict_ema", lambda raw, ema: {**timm_script(raw), "state_dict_ema": dict(ema)}),
    "torchvision's script": (
        "model_ema",
        lambda raw, ema: {**torchvision_script(raw), "model_ema": averaged_model(ema)},
    ),
    "Lightning's WeightAveraging": (
        "current_model_state",
        lambda raw, ema: {
            **lightning(ema),
            "current_model_state": prefixed(raw, "model."),
            "averaging_state": {"n_averaged": torch.tensor(3)},
        },
    ),
    "mmengine's EMAHook": (
        "ema_state_dict",
        lambda raw, ema: {
            **mmpretrain(ema),
            "ema_state_dict": {"steps": torch.tensor(5), **prefixed(mmpretrain(raw)["state_dict"], "module.")},
        },
    ),
    "DINO": (
        "teacher",
        lambda raw, ema: {
            "student": prefixed(raw, "module.backbone.") | {"module.head.mlp.0.weight": torch.zeros(3, 512)},
            "teacher": prefixed(ema, "backbone.") | {"head.mlp.0.weight": torch.zeros(3, 512)},
            "epoch": 800, "args": ARGS, "dino_loss": {"center": torch.zeros(1, 3)},
        },
    ),
    "ema_pytorch": (
        "ema_model.",
        lambda raw, ema: {
            "initted": torch.tensor(True), "step": torch.tensor(4),
            **prefixed(raw, "online_model."), **prefixed(ema, "ema_model."),
        },
    ),
    "MoCo, with the head of its queries": (
        "encoder_k.",
        lambda raw, ema: {
            "state_dict": prefixed(raw, "module.encoder_q.") | prefixed(ema, "module.encoder_k.")
            | {"module.queue": torch.zeros(128, 8), "module.queue_ptr": torch.zeros(1, dtype=torch.int64)},
            "arch": "resnet50", "epoch": 200,
        },
    ),
}  # fmt: skip
"""Layouts with the weights of the last step and their average: a key or prefix that is named, and the file."""


@contextmanager
def class_of(name: str, base: type = object) -> Iterator[type]:
    """A class that pickles under a library's name for it, while the library is not there."""
    module, _, bare = name.rpartition(".")
    rooms = [".".join(module.split(".")[:end]) for end in range(1, module.count(".") + 2)]
    made = [room for room in rooms if room not in sys.modules]
    for room in made:
        sys.modules[room] = types.ModuleType(room)
    kind = type(bare, (base,), {"__module__": module})
    setattr(sys.modules[module], bare, kind)
    try:
        yield kind
    finally:
        delattr(sys.modules[module], bare)
        for room in made:
            del sys.modules[room]
