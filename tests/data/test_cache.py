"""The cache of decoded images: keyed by content, whole or absent, and never in the way."""

import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from reslab.data import cache as caches
from reslab.data.cache import content_key
from reslab.data.images import Dataset
from reslab.data.memo import default_dir
from reslab.data.sources import load
from reslab.errors import InputError

from .sample import png, write_images, write_parquet

LOADER = """
import logging, sys
from pathlib import Path
logging.basicConfig(level=logging.WARNING)
from reslab.data.sources import load
print("ready", flush=True)
sys.stdin.readline()
print(load(sys.argv[1], cache_dir=Path(sys.argv[2])).info.fingerprint)
"""


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.safetensors"))


def same(one: Dataset, other: Dataset) -> bool:
    return one.info == other.info and all(
        torch.equal(getattr(getattr(one, split), part), getattr(getattr(other, split), part))
        for split in ("train", "test")
        for part in ("images", "labels")
    )


def start(path: Path, cache: Path, limit: int | None = None) -> "subprocess.Popen[str]":
    """A process that waits for a line, then loads; ``limit``: bytes of the largest file that it may write."""

    def confine() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    source = str(Path(__file__).parents[2] / "src")
    return subprocess.Popen(
        [sys.executable, "-c", LOADER, str(path), str(cache)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
        preexec_fn=confine,
    )


def test_the_second_load_is_the_first(parquet: Path, cache: Path) -> None:
    first = load(str(parquet), cache_dir=cache)
    (entry,) = entries(cache)
    written = entry.stat().st_mtime_ns
    second = load(str(parquet), cache_dir=cache)
    assert same(first, second)
    assert entries(cache) == [entry]
    assert entry.stat().st_mtime_ns == written
    assert not list(cache.glob(".*"))


def test_the_second_load_reads_the_cache_and_decodes_nothing(parquet: Path, cache: Path) -> None:
    load(str(parquet), cache_dir=cache)
    (entry,) = entries(cache)
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(str(entry), framework="pt") as file:
        about = file.metadata()
    tensors = {name: tensor.clone() for name, tensor in load_file(entry).items()}
    tensors["train.images"][0] = 77  # a mark that no decoding would make
    save_file(tensors, entry, metadata=about)
    assert bool((load(str(parquet), cache_dir=cache).train.images[0] == 77).all())


def test_an_image_folder_is_cached_for_each_size(folder: Path, cache: Path) -> None:
    assert load(str(folder), cache_dir=cache).info.size == (8, 8)
    assert load(str(folder), cache_dir=cache, size=6).info.size == (6, 6)
    assert load(str(folder), cache_dir=cache).info.size == (8, 8)
    assert len(entries(cache)) == 2


def test_a_copy_elsewhere_has_the_same_entry(parquet: Path, cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / parquet.name
    shutil.copytree(parquet, copy)
    one, other = load(str(parquet), cache_dir=cache), load(str(copy), cache_dir=cache)
    assert len(entries(cache)) == 1
    assert one.info.fingerprint == other.info.fingerprint
    assert other.info.source == str(copy)


def test_changed_content_is_decoded_anew_even_with_the_old_size_and_date(parquet: Path, cache: Path) -> None:
    load(str(parquet), cache_dir=cache)
    file = parquet / "test-00000-of-00001.parquet"
    before = file.stat()
    old = file.read_bytes()
    write_parquet(file, [png(i) for i in range(12, 16)], [1, 0, 1, 0], names=("cat", "dog"))
    assert file.stat().st_size == before.st_size == len(old)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(str(parquet), cache_dir=cache).test.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("keep", [0, 4, 100, 1000])
def test_a_truncated_entry_is_built_anew(
    parquet: Path, cache: Path, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = load(str(parquet), cache_dir=cache)
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    entry.write_bytes(whole[:keep])
    with caplog.at_level(logging.WARNING, "reslab"):
        assert same(first, load(str(parquet), cache_dir=cache))
    assert "damaged" in caplog.text
    assert entry.read_bytes() == whole


def test_an_entry_of_something_else_is_built_anew(parquet: Path, cache: Path) -> None:
    from safetensors.torch import save_file

    first = load(str(parquet), cache_dir=cache)
    (entry,) = entries(cache)
    save_file({"train.images": torch.zeros(3)}, entry)
    assert same(first, load(str(parquet), cache_dir=cache))


def test_two_processes_may_build_one_entry_at_once(parquet: Path, cache: Path) -> None:
    racers = [start(parquet, cache) for _ in range(2)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:  # both have imported everything, and wait
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=120) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], said
    assert [err for _, err in said] == ["", ""]
    assert {out.strip() for out, _ in said} == {load(str(parquet), cache_dir=cache).info.fingerprint}
    assert len(entries(cache)) == 1
    assert not list(cache.glob(".*"))


def test_readers_see_whole_entries_while_others_write(
    parquet: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = load(str(parquet), cache_dir=cache)
    (entry,) = entries(cache)
    stop = threading.Event()

    def rebuild() -> None:
        while not stop.is_set():
            entry.unlink(missing_ok=True)
            load(str(parquet), cache_dir=cache)

    writer = threading.Thread(target=rebuild)
    writer.start()
    try:
        with caplog.at_level(logging.WARNING, "reslab"):
            for _ in range(40):
                assert same(first, load(str(parquet), cache_dir=cache))
    finally:
        stop.set()
        writer.join()
    assert "damaged" not in caplog.text


def test_a_full_disk_costs_the_cache_and_not_the_run(parquet: Path, cache: Path) -> None:
    process = start(parquet, cache, limit=1000)
    out, err = process.communicate("\n", timeout=120)
    assert process.returncode == 0, err
    assert out.split()[-1] == load(str(parquet), cache_dir=cache.with_name("other")).info.fingerprint
    assert "working without a cache" in err
    assert len(err.strip().splitlines()) == 1
    assert list(cache.iterdir()) == []


def test_a_place_that_cannot_be_a_folder_costs_the_cache_and_not_the_run(
    parquet: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING, "reslab"):
        assert load(str(parquet), cache_dir=tmp_path / "file" / "cache").info.n_train == 12
    assert "working without a cache" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_place_costs_the_cache_and_not_the_run(
    parquet: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir(mode=0o555)
    with caplog.at_level(logging.WARNING, "reslab"):
        assert load(str(parquet), cache_dir=cache).info.n_train == 12
    assert "working without a cache" in caplog.text
    assert list(cache.iterdir()) == []


def test_an_entry_has_the_rights_of_any_new_file(parquet: Path, cache: Path, tmp_path: Path) -> None:
    load(str(parquet), cache_dir=cache)
    (tmp_path / "other").write_text("x")
    assert entries(cache)[0].stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_process_killed_while_writing_leaves_no_entry(parquet: Path, cache: Path) -> None:
    process = start(parquet, cache)
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    while process.poll() is None and not cache.exists():  # made just before the entry is written
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    assert load(str(parquet), cache_dir=cache).info.n_train == 12
    assert len(entries(cache)) == 1


def test_leftovers_of_killed_processes_are_swept_once_they_are_old(parquet: Path, cache: Path) -> None:
    cache.mkdir()
    old, young = cache / ".a.safetensors.1-ab.tmp", cache / ".b.safetensors.2-cd.tmp"
    for leftover in (old, young):
        leftover.mkdir()
        (leftover / "entry").write_bytes(b"half")
    os.utime(old, (time.time() - 2 * caches._ABANDONED,) * 2)
    load(str(parquet), cache_dir=cache)
    assert not old.exists()
    assert young.exists()


def test_bad_data_leave_nothing_behind(tmp_path: Path, cache: Path) -> None:
    write_images(tmp_path / "one" / "cat", 3)
    write_images(tmp_path / "one" / "dog", 3)
    broken = tmp_path / "one" / "cat" / "001.png"
    broken.write_bytes(broken.read_bytes()[:90])
    with pytest.raises(InputError, match=r"001\.png"):
        load(str(tmp_path / "one"), cache_dir=cache)
    assert not cache.exists()


def test_the_key_knows_names_bytes_and_options(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    keys = {
        content_key({"x": a}),
        content_key({"y": a}),
        content_key({"x": b}),
        content_key({"x": a}, "size=8"),
        content_key({"x": a, "y": b}),
        content_key({"x": b, "y": a}),
    }
    assert len(keys) == 6
    assert content_key({"x": a, "y": b}) == content_key({"y": b, "x": a})
    with pytest.raises(InputError, match="gone"):
        content_key({"x": tmp_path / "gone"})


def test_the_place_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parquet: Path) -> None:
    monkeypatch.setenv("RESLAB_CACHE", str(tmp_path / "chosen"))
    assert default_dir() == tmp_path / "chosen"
    load(str(parquet))
    assert len(entries(tmp_path / "chosen")) == 1
    monkeypatch.delenv("RESLAB_CACHE")
    assert default_dir().name == "reslab"
