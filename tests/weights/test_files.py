"""Files of weights, whole, odd, damaged and hostile. Whatever is in them, nothing of it runs."""

import contextlib
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from reslab.errors import InputError
from reslab.nets import build
from reslab.weights.files import pickled, read, read_safetensors, to_bytes
from reslab.weights.wrapped import NESTS

from .sample import State, armed, saved

STATE: State = {
    "conv1.weight": torch.arange(108.0).reshape(4, 3, 3, 3),
    "bn1.num_batches_tracked": torch.tensor(3),
    "fc.weight": torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).half(),
}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype for name in one
    )


def refusal(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- what is read ---


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".th", ".tar", ".bin", ""])
@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_of_any_name_and_age(suffix: str, legacy: bool, tmp_path: Path) -> None:
    stored = read(saved(tmp_path / f"weights{suffix}", STATE, legacy=legacy))
    assert equal(stored.tensors, STATE)
    assert (stored.header, stored.said) == ({}, ())


def test_safetensors_with_a_header_and_without(tmp_path: Path) -> None:
    header = {"net": {"name": "x"}, "classes": ["a", "b"], "error": 8.75}
    path = tmp_path / "weights.safetensors"
    path.write_bytes(to_bytes(STATE, header))
    stored = read(path)
    assert equal(stored.tensors, STATE)
    assert stored.header == header
    path.write_bytes(to_bytes(STATE, {}))
    assert read(path).header == {}
    save_file(STATE, path, metadata={"format": "pt"})
    assert equal(read(path).tensors, STATE)
    path.rename(tmp_path / "renamed.pth")  # content counts, not the name
    assert equal(read(tmp_path / "renamed.pth").tensors, STATE)


def test_equal_weights_are_equal_bytes() -> None:
    header = {"b": 1, "a": {"d": [1, 2], "c": None}}
    assert to_bytes(STATE, header) == to_bytes(dict(STATE), dict(header))
    assert to_bytes(STATE, header) != to_bytes(STATE, {})


def test_views_and_shared_memory_are_written_as_they_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    odd = {
        "a": whole.t(),
        "b": whole[1:3],
        "again": whole,
        "c": whole[0].expand(5, 6),
        "p": torch.nn.Parameter(whole),
    }
    path = tmp_path / "odd.safetensors"
    path.write_bytes(to_bytes(odd, {}))
    assert equal(read(path).tensors, {name: tensor.detach().clone() for name, tensor in odd.items()})
    path = tmp_path / "odd.pth"
    path.write_bytes(pickled(odd))
    assert equal(read(path).tensors, {name: tensor.detach().clone() for name, tensor in odd.items()})


@pytest.mark.parametrize("nest", NESTS)
def test_weights_inside_what_a_script_saves(nest: str, tmp_path: Path) -> None:
    whole = {"epoch": 164, "best_prec1": torch.tensor(91.7), "optimizer": {"state": {}}, "args": None, nest: STATE}
    stored = read(saved(tmp_path / "checkpoint.th", whole))
    assert equal(stored.tensors, STATE)
    assert stored.said == (f"taken from its '{nest}'",)
    twice = read(saved(tmp_path / "twice.tar", {"state_dict": whole}))
    assert equal(twice.tensors, STATE)
    assert len(twice.said) == 2


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.module.model."]
)
def test_prefixes_of_wrappers_go(prefix: str, tmp_path: Path) -> None:
    wrapped = {prefix + name: tensor for name, tensor in STATE.items()}
    stored = read(saved(tmp_path / "wrapped.pth", {"state_dict": wrapped}))
    assert equal(stored.tensors, STATE)
    assert stored.said[-1] == f"prefix '{prefix}' removed from its names"
    save_file(wrapped, tmp_path / "wrapped.safetensors")
    assert equal(read(tmp_path / "wrapped.safetensors").tensors, STATE)


def test_what_not_all_names_have_is_no_prefix(tmp_path: Path) -> None:
    partly = {f"module.{name}" if i else name: tensor for i, (name, tensor) in enumerate(STATE.items())}
    assert read(saved(tmp_path / "partly.pth", partly)).tensors.keys() == partly.keys()
    other = {f"trunk.{name}": tensor for name, tensor in STATE.items()}
    assert read(saved(tmp_path / "other.pth", other)).tensors.keys() == other.keys()


def test_names_of_ours_are_left_alone(tmp_path: Path) -> None:
    """A checkpoint in mid-training has 'model.' before its weights, beside momentum."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(to_bytes({f"model.{name}": tensor for name, tensor in STATE.items()}, {"iteration": 3}))
    assert all(name.startswith("model.") for name in read(path).tensors)


# --- what is refused ---


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.th", "weights.tar", "weights", "x.bin"])
def test_code_is_never_run(name: str, legacy: bool, tmp_path: Path) -> None:
    payload, marker = armed(tmp_path)
    path = saved(tmp_path / name, {"state_dict": STATE, "extra": payload}, legacy=legacy)
    torch.load(path, weights_only=False)
    assert marker.exists(), "the payload works where it is let"
    marker.unlink()
    said = refusal(path)
    assert "more than tensors and plain values" in said
    assert "could run code" in said
    assert "torch.save(model.state_dict(), 'weights.pth'), and give that" in said
    assert not marker.exists()


def test_code_under_a_safe_name(tmp_path: Path) -> None:
    payload, marker = armed(tmp_path)
    (tmp_path / "bare.safetensors").write_bytes(pickle.dumps(payload))
    saved(tmp_path / "zipped.safetensors", {"a": payload})
    for name in ("bare.safetensors", "zipped.safetensors"):
        assert "is not a whole safetensors file" in refusal(tmp_path / name)
    assert not marker.exists()


def test_whole_modules_and_other_objects_are_refused(tmp_path: Path) -> None:
    torch.save(build("cifar_resnet(depth=8, width=4)"), tmp_path / "module.pth")
    assert "reslab.nets.network.Network" in refusal(tmp_path / "module.pth")
    saved(tmp_path / "task.pth", {"state_dict": STATE, "task": threading.Event})
    assert "threading.Event" in refusal(tmp_path / "task.pth")


def test_nothing_there(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "none.pth")
    assert "there is no such file" in refusal(tmp_path / "none.safetensors")
    assert "Is a directory" in refusal(tmp_path)
    assert "Not a directory" in refusal(saved(tmp_path / "file", STATE) / "below.pth")
    with pytest.raises(InputError, match="no such file"):
        read_safetensors(tmp_path / "none.safetensors")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80", b"PK", b"PK\x03\x04", b"\x80\x02.", bytes(2000)])
def test_what_is_no_such_file_at_all(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(content)
    said = refusal(path)
    assert "safetensors file" in said if suffix == ".safetensors" else "safetensors file" not in said


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_file_that_is_cut_short(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        path.write_bytes(to_bytes(STATE, {"net": {}}))
    else:
        saved(path, STATE, legacy=kind == "legacy")
    whole = path.read_bytes()
    for length in {*range(0, len(whole), len(whole) // 23), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert "refused" in refusal(path) or "expected a state dict" in refusal(path), length


DAMAGE = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@DAMAGE
@given(data=st.data())
def test_damaged_bytes_are_refused_or_read_and_nothing_else(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        path.write_bytes(to_bytes(STATE, {"net": {}}))
    else:
        saved(path, STATE, legacy=kind == "legacy")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 1200) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        read(path)


@pytest.mark.parametrize(
    "header", ["{", "7", "null]", '"net"', "[1, 2]", "[" * 100_000], ids=lambda text: text[:8] or "empty"
)
def test_odd_headers_are_a_users_mistake(header: str, tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "odd.safetensors", metadata={"reslab": header})
    assert "is not a whole safetensors file" in refusal(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([torch.zeros(1)], "found a list"),
        (torch.zeros(3), "found a Tensor"),
        ({}, "found an empty dictionary"),
        ({"epoch": 3, "lr": 0.1}, "found keys epoch, lr"),
        ({"state_dict": {"conv1.weight": 3}}, "found keys state_dict"),
        ({"state_dict": {"model": {"net": {"weights": {"module": STATE}}}}}, "found keys"),
    ],
)
def test_what_is_no_state_dict(value: Any, found: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "odd.pth")
    said = refusal(tmp_path / "odd.pth")
    assert "expected a state dict (names to tensors)" in said
    assert found in said


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(4, 3, 3, 3).to_sparse(),
        torch.zeros(4, 3, 3, 3, device="meta"),
        torch.zeros(1).expand(10**9, 3, 3, 3),  # a few bytes that would fill the memory
    ],
    ids=["sparse", "meta", "expanded"],
)
def test_tensors_without_numbers_of_their_own(tensor: torch.Tensor, tmp_path: Path) -> None:
    saved(tmp_path / "odd.pth", STATE | {"conv1.weight": tensor})
    assert "expected ordinary tensors, found 'conv1.weight'" in refusal(tmp_path / "odd.pth")


def test_numbers_that_were_altered_are_refused(tmp_path: Path) -> None:
    """A file of ours says what it held when it was written; those of earlier versions, and of others, do not."""
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.tensor(7)}
    content = bytearray(to_bytes(tensors, {"net": "resnet20"}))
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    assert read(path).header == {"net": "resnet20"}
    for place in (-1, -20):
        content[place] ^= 1
        path.write_bytes(content)
        assert "was damaged or altered since it was written: expected numbers with the digest" in refusal(path)
        content[place] ^= 1
    bare = to_bytes(tensors, {})
    path.write_bytes(bare[:-1] + bytes([bare[-1] ^ 1]))
    assert read(path).header == {}
