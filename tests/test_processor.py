"""The levels of a processor: what is asked for is what the compiler, PyTorch and the precision go by."""

import os

import pytest
import torch

from reslab import processor
from reslab.errors import InputError
from reslab.kernels.build import has, library
from reslab.train.device import has_bf16, resolve_precision

CPU = torch.device("cpu")


def machine(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(processor, "flags", lambda: frozenset(flags))


def test_what_a_processor_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "sse2", "avx2", "fma")
    assert processor.offered() == ["avx2"]
    machine(monkeypatch, "avx2", "avx512vl", "avx512_bf16")
    assert processor.offered() == ["avx2", "avx512", "avx512_bf16"]
    machine(monkeypatch)
    assert processor.offered() == []


def test_a_level_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "avx2")
    monkeypatch.setenv(processor.VARIABLE, "avx512")
    with pytest.raises(InputError, match="RESLAB_CPU=avx512: this processor has no avx512vl; it offers avx2"):
        processor.level()
    monkeypatch.setenv(processor.VARIABLE, "avx521")
    with pytest.raises(InputError, match="RESLAB_CPU=avx521 is no kind of processor; did you mean 'avx512'"):
        processor.level()
    with pytest.raises(InputError):
        has_bf16(CPU)
    monkeypatch.setenv(processor.VARIABLE, "")
    assert processor.level() is None


def test_libraries_are_held_to_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "as it was")
    monkeypatch.setenv(processor.VARIABLE, "avx2")
    processor.limit_libraries()
    assert (os.environ["ATEN_CPU_CAPABILITY"], os.environ["ONEDNN_MAX_CPU_ISA"]) == ("avx2", "AVX2")


def test_a_narrow_level_has_no_bf16_whatever_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "avx2", "avx512vl", "avx512_bf16", "amx_bf16")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    found = {}
    for name in processor.LEVELS:
        monkeypatch.setenv(processor.VARIABLE, name)
        found[name] = resolve_precision("auto", CPU)
    assert found == {"avx2": "fp32", "avx512": "fp32", "avx512_bf16": "bf16", "amx": "bf16"}


def test_all_agree_on_what_this_process_may_use() -> None:
    """Says little of a process without RESLAB_CPU; ``make cpus`` runs it with each."""
    asked = processor.level()
    if asked is not None:
        assert torch.backends.cpu.get_cpu_capability() == asked.aten.upper()
        assert asked.bf16 or not has_bf16(CPU)
    if library() is not None and processor.offered():
        assert has("conv16", torch.bfloat16) == has_bf16(CPU)
        assert has("winograd", torch.float32) != has("conv16", torch.float32)
