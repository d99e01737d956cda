"""An artefact: the folder that leaves the lab. Model files, and beside them what they are, with checksums.

``metadata.json`` names the classes, the normalisation, where the weights come from, what the gate found, and the
SHA-256 of each file; its last field is the SHA-256 of all the others. A folder of which a bit is missing or changed is
refused. Checksums tell damage, not forgery: who can write the folder can write them anew.

Imports without torch: so does what serves an artefact.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from reslab.errors import InputError, first_line, writing
from reslab.nets.spec import AnyNet, Spec
from reslab.runs.files import write_json
from reslab.weights.preprocessing import Preprocessing

METADATA = "metadata.json"
VERSION = 1
KIND = "kind"
"""The field that says what an artefact is of; without it, of a classifier."""
Format = Literal["onnx", "openvino", "torch"]
Input = Literal["photographs", "crops", "tensors"]
RuntimeName = Literal["torch", "onnxruntime", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Of a file in the folder itself: a path could lead out of it."""


class Checksum(Spec):
    """By which a file is known."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Accuracy(Spec):
    """Share of the images that are named right, in per cent, with its interval (95 %, Wilson)."""

    percent: float
    low: float
    high: float


class Speed(Spec):
    """Images a second at a batch size, of the artefact and of what it replaces, by turns on one machine."""

    batch: int
    artefact: float
    original: float
    ratio: float = Field(description="median over the rounds")
    low: float
    high: float = Field(description="with low, an interval of the median, 95 %")


class Checked(Spec):
    """What the gate found for a runtime."""

    runtime: RuntimeName
    precision: Precision
    images: int
    largest_difference: dict[int, float] = Field(description="of a probability, by batch size")
    agreement: float = Field(description="per cent of the images of which both say the same first")
    accuracy: Accuracy | None = Field(None, description="null: the images have no labels")
    accuracy_before: Accuracy | None = None
    speed: tuple[Speed, ...] = ()
    refused: str = Field("", description="why it did not pass; empty: it passed")

    @property
    def passed(self) -> bool:
        """Whether the gate lets it out."""
        return not self.refused


class Sealed(Spec):
    """What every artefact says of itself."""

    version: Literal[1] = 1
    models: dict[Format, FileName] = Field(description="which file to load, by its format")
    files: dict[FileName, Checksum] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)


class About(Sealed):
    """What an artefact of a classifier is."""

    net: str
    spec: AnyNet | None = Field(None, description="the network as plain data; null: nobody said")
    num_classes: int = Field(ge=1)
    channels: int = Field(ge=1)
    classes: tuple[str, ...] | None = Field(None, description="names of the outputs; null: nobody said")
    input: Input = Field(
        description="photographs: uint8 (N, H, W, C) of any size, resized, cropped and normalised inside; crops: the "
        "same of the crop's size, normalised inside; tensors: fp32 (N, C, H, W), normalised by the caller"
    )
    preprocessing: Preprocessing
    temperature: float = Field(1.0, gt=0, description="logits are divided by it before the softmax")
    precision: Precision = Field("fp32", description="of weights and activations as they are stored")
    head: FileName | None = Field(
        None, description="weights (classes, C) that make class activation maps of the model's second output, maps "
        "(N, C, H, W); null: it has none"
    )  # fmt: skip
    gate: tuple[Checked, ...] = ()

    def inside(self) -> dict[str, str]:
        """What model files hold of it themselves, for who finds one alone: text by name."""
        shape = {
            "photographs": "uint8 (N, H, W, C), any size",
            "crops": "uint8 (N, H, W, C)",
            "tensors": "fp32 (N, C, H, W)",
        }
        return {
            "net": self.net,
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "input": shape[self.input],
            "preprocessing": self.preprocessing.model_dump_json(),
            "temperature": str(self.temperature),
            "provenance": json.dumps(self.provenance, ensure_ascii=False),
        }


Described = TypeVar("Described", bound=Sealed)


@dataclass(frozen=True)
class Artefact:
    """An artefact on disk, found whole."""

    folder: Path
    about: About

    def file(self, format: Format) -> Path:
        """The model file of a format; `KeyError` where there is none."""
        return self.folder / self.about.models[format]


def is_artefact(source: str | Path) -> bool:
    """Whether a folder is one, or once was."""
    try:
        return (Path(source).expanduser() / METADATA).is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def read(folder: str | Path) -> Artefact:
    """Reads an artefact, all of whose bytes are compared with their checksums.

    Raises `InputError` for a folder that is none, or is not what was written.
    """
    place, values = contents(folder)
    if KIND in values:
        raise InputError(
            f"{place}: expected the artefact of a classifier, found that of a {values[KIND]}, which reslab detect "
            "eval, reslab detect predict and reslab serve take"
        )
    return Artefact(place, understood(place, values, About))


def contents(folder: str | Path) -> tuple[Path, dict[str, Any]]:
    """The metadata of an artefact of any kind, as it was written. Raises `InputError`."""
    place = Path(folder).expanduser()
    try:
        text = (place / METADATA).read_text(encoding="utf-8")
        values = json.loads(text)
    except FileNotFoundError:
        raise InputError(f"expected an artefact at {place}, but there is no {METADATA} in it") from None
    except (OSError, ValueError, RecursionError) as why:
        raise InputError(f"{place}: {METADATA} is damaged ({first_line(why)}); export again") from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        found = values.get("version") if isinstance(values, dict) else type(values).__name__
        raise InputError(f"{place}: expected an artefact of version {VERSION}, found {found}; export again")
    written = values.pop("sha256", None)
    if written != _digest(values):
        raise InputError(f"{place}: {METADATA} was altered since it was written; export again")
    return place, values


def understood(place: Path, values: dict[str, Any], kind: type[Described]) -> Described:
    """Metadata as a value, once its files are found whole. Raises `InputError`."""
    try:
        about = kind.model_validate(values)
    except ValidationError as why:
        raise InputError(f"{place}: {METADATA} is not understood ({why.errors()[0]['msg']}); export again") from None
    for name, expected in about.files.items():
        _check(place / name, expected)
    return about


def _check(path: Path, expected: Checksum) -> None:
    try:
        size = path.stat().st_size
        found = checksum(path) if size == expected.bytes else None
    except FileNotFoundError:
        raise InputError(f"expected the file {path} of an artefact, but it does not exist; export again") from None
    except OSError as why:
        raise InputError(f"{path} cannot be read ({why.strerror or why})") from None
    if found is None:
        raise InputError(f"{path} was cut or altered: expected {expected.bytes:,} bytes, found {size:,}; export again")
    if found != expected:
        raise InputError(
            f"{path} was altered since it was written: expected the checksum {expected.sha256[:16]}..., found "
            f"{found.sha256[:16]}...; export again"
        )


def checksum(path: Path) -> Checksum:
    """Size and SHA-256 of a file."""
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256")
    return Checksum(bytes=path.stat().st_size, sha256=digest.hexdigest())


def _digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, whatever the order of their names and the spaces between them."""
    plain = json.loads(json.dumps(values))  # names that are numbers become text, as they are read back
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def written(target: Path) -> Iterator[Path]:
    """A folder to write model files to, which becomes ``target`` when all went well; else nothing is left of it.

    An artefact that is there already is replaced whole: a reader sees the old one or the new one.
    """
    target = target.expanduser()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield made
        made.chmod(0o777 & ~_mask())
        if target.exists():
            old = made.with_name(made.name + ".old")
            target.rename(old)
            made.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            made.rename(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _mask() -> int:
    """What the user's settings take from the rights of new files; a temporary folder is its owner's alone."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def seal(folder: Path, about: Described) -> Described:
    """Writes the metadata of a folder whose model files are written, with their checksums."""
    files = {path.name: checksum(path) for path in sorted(folder.iterdir()) if path.name != METADATA}
    sealed = about.model_copy(update={"files": files})
    missing = set(sealed.models.values()) - set(files)
    assert not missing, f"no such files: {missing}"
    values = sealed.model_dump(mode="json")
    write_json(folder / METADATA, values | {"sha256": _digest(values)})
    return sealed
