"""PyTorch's own files: pickles, of which tensors and plain values alone are built and nothing is ever run.

What training scripts keep beside the weights (arguments, numpy's numbers, paths, configurations) is passed over:
an inert value stands where it stood, so that no class or function that a file names is imported or called.
"""

import inspect
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from reslab.errors import InputError


class Aside:
    """Stands for a value beside the weights, which is not looked at: it takes anything and keeps nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


class _AsDict:
    """Stands for a class derived from a dictionary, whose items PyTorch's reader sets in a plain one only."""

    def __new__(cls, *_args: Any) -> Any:
        return {}


class _AsList:
    """Stands for a class derived from a list."""

    def __new__(cls, *_args: Any) -> Any:
        return []


_PLAIN = (
    "argparse.Namespace", "types.SimpleNamespace",  # the arguments: torchvision's and timm's scripts, DINO, MoCo
    "builtins.complex", "builtins.frozenset", "builtins.range", "builtins.slice", "builtins.type",
    "builtins.bool", "builtins.bytes", "builtins.dict", "builtins.float", "builtins.int", "builtins.list",
    "builtins.object", "builtins.str", "builtins.tuple", "copyreg._reconstructor", "typing.Any",
    "datetime.date", "datetime.datetime", "datetime.timedelta", "datetime.timezone", "decimal.Decimal", "uuid.UUID",
    *(f"{module}.{kind}Path" for module in ("pathlib", "pathlib._local")
      for kind in ("", "Pure", "PurePosix", "PureWindows", "Posix", "Windows")),
    # a loss or an accuracy that was kept as numpy's number, a random state, a history
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    "numpy.dtype", "numpy.ndarray", *(f"numpy.{kind}" for kind in ("float64", "float32", "int64", "int32", "bool_")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float16", "Float32", "Float64", "Int32", "Int64", "UInt32", "Bool")),
    "fastcore.foundation.L",  # fastai's Learner.save keeps the optimizer's settings in it
    "mmengine.logging.history_buffer.HistoryBuffer",
    "omegaconf.base.ContainerMetadata", "omegaconf.base.Metadata", "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path",
                                                 "String")),
    "torchvision.transforms.functional.InterpolationMode", "transformers.trainer_utils.IntervalStrategy",
)  # fmt: skip
_DICTS = (
    "collections.defaultdict", "yacs.config.CfgNode", "addict.addict.Dict", "easydict.EasyDict",
    "mmengine.config.config.ConfigDict", "mmcv.utils.config.ConfigDict", "mmcv.runner.log_buffer.LogBuffer",
    "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict",
)  # fmt: skip
_LISTS = ("collections.deque",)


def _optimizers() -> list[str]:
    """PyTorch's optimizers and schedules, which some scripts keep whole rather than as their state."""
    rooms = (torch.optim, torch.optim.lr_scheduler)
    classes = {kind for room in rooms for kind in vars(room).values() if inspect.isclass(kind)}
    return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in classes if kind.__module__.startswith("torch."))


def _stand_ins() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    return [
        *((Aside, name) for name in (*_PLAIN, *_optimizers())),
        *((_AsDict, name) for name in _DICTS),
        *((_AsList, name) for name in _LISTS),
    ]


def unpickled(path: Path) -> Any:
    """Reads what ``torch.save`` wrote: tensors and plain values only.

    Raises `InputError` for a file that names any other class or function, is of another kind, or is not whole.
    """
    if other := _other_kind(path):
        raise InputError(f"{path} is {other}")
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_stand_ins()):
            warnings.simplefilter("ignore")  # of what is refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} {_refusal(str(error))}") from None
    except Exception as error:  # bytes from anywhere: a damaged archive fails in any of a dozen ways
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a whole file of weights ({first[:120]}); it was refused, and none of it was run"
        ) from None


_WHOLE = re.compile(r"(torch\.nn\.modules\.|torchvision\.models\.|timm\.models\.|reslab\.nets\.).*")
"""Classes of networks: the file is of a whole module rather than of its weights."""


def _refusal(message: str) -> str:
    """Why a pickle was refused, and what to do. PyTorch's message goes on for a page; the class stands in one line."""
    named = re.search(r"GLOBAL ([\w.<>]+)", message)
    name = named[1] if named else ""
    reason = next((line.strip() for line in message.splitlines() if "GLOBAL" in line or "global" in line), "")[:120]
    if _WHOLE.fullmatch(name):
        return (
            f"holds a whole network as a Python object ({name}), which could run code when opened: it was refused, "
            "and none of it was run. Where it was made, save the weights alone, torch.save(model.state_dict(), "
            "'weights.pth'), and give that"
        )
    if name.startswith("fastai."):
        return (
            f"is a whole Learner of fastai ({name}), which could run code when opened: it was refused, and none of "
            "it was run. Where it was made, call learn.save('weights', with_opt=False), and give the file that "
            "it writes"
        )
    return (
        "holds more than tensors and plain values, and could run code when opened: it was refused, and none of it "
        f"was run ({name or reason or 'not a plain pickle'}). Where you trust it, save its weights alone, "
        "torch.save(model.state_dict(), 'weights.pth'), and give that"
    )


def _other_kind(path: Path) -> str:
    """Says what an archive without PyTorch weights is, and what to do; empty if it may contain some."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    bare = {name.partition("/")[2] for name in names}
    if "constants.pkl" in bare and any(name.startswith("code/") for name in bare):
        return (
            "a TorchScript program rather than weights; where it was made, save "
            "torch.jit.load(file).state_dict() by torch.save, and give that"
        )
    if any(name.rpartition("/")[2] in ("serialized_exported_program.json", "archive_format") for name in names):
        return (
            "an exported program (torch.export) rather than weights; save torch.export.load(file).state_dict by "
            "torch.save, and give that"
        )
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of numpy arrays; PyTorch's and safetensors files are read"
    if "model.weights.h5" in names:
        return "a Keras model; PyTorch's and safetensors files are read"
    return ""
