"""Each source with real, tiny data made on the spot; and every way in which it can be wrong."""

import functools
import hashlib
import http.server
import os
import pickle
import shutil
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from reslab.data.decode import whole as decoding
from reslab.data.download import Remote, load_remote
from reslab.data.find import find
from reslab.data.images import Dataset, fingerprint, held_out
from reslab.data.names import KNOWN
from reslab.data.sources import load
from reslab.data.spec import Augment
from reslab.errors import InputError

from .sample import picture, png, write_images, write_parquet

REPO = Path(__file__).parents[2]
CIFAR10 = Path(os.environ.get("RESLAB_CIFAR10", REPO.parent / "shared" / "data" / "cifar10"))
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def chw(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def fetched(remote: Remote, *, cache_dir: Path) -> Dataset:
    found = load_remote(remote, cache_dir=cache_dir)
    assert isinstance(found, Dataset)
    return found


def complaint(source: Path | str, cache: Path, size: int | None = None) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(InputError) as caught:
        load(str(source), cache_dir=cache, size=size)
    assert "\n" not in str(caught.value)
    assert not cache.exists(), "a refused source leaves nothing behind"
    return str(caught.value)


# --- by name ---


def test_digits() -> None:
    digits = load("digits")
    assert digits.info.augment == Augment(pad=1, flip=False)
    assert (digits.info.n_train, digits.info.n_test, digits.info.size) == (1437, 360, (8, 8))
    assert digits.train.images.shape == (1437, 1, 8, 8)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.labels.dtype == torch.int64
    assert (int(digits.train.images.min()), int(digits.train.images.max())) == (0, 255)
    test = Counter(digits.test.labels.tolist())
    assert set(test) == set(range(10))
    assert min(test.values()) >= 35
    assert max(test.values()) <= 37
    assert digits.info.classes == tuple("0123456789")
    # the split and the pixels are pinned: results are comparable only on the same ones
    assert digits.info.fingerprint == "86d18b303e16dbd4"
    assert load("digits").info == digits.info


def test_digits_are_the_same_where_scikit_learn_keeps_them_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reslab.data.embedded.DIGITS_FILE", "nowhere.csv.gz")
    assert load("digits").info.fingerprint == "86d18b303e16dbd4"


def test_synthetic_can_be_learnt_and_is_always_the_same() -> None:
    made = load("synthetic")
    assert made.train.images.shape == (2048, 3, 32, 32)
    assert made.test.images.shape == (512, 3, 32, 32)
    assert len(made.info.classes) == 10
    assert load("synthetic").info.fingerprint == made.info.fingerprint
    means = torch.stack([made.train.images[made.train.labels == c].float().mean(0) for c in range(10)])
    distance = torch.cdist(made.test.images.float().flatten(1), means.flatten(1))
    assert (distance.argmin(1) == made.test.labels).float().mean() > 0.95


def test_known_names_have_one_line_each() -> None:
    assert list(KNOWN) == ["digits", "cifar10", "cifar100", "synthetic"]
    assert all(text and "\n" not in text for text in KNOWN.values())


def test_unknown_names_get_the_nearest(cache: Path) -> None:
    assert "did you mean 'cifar10'?" in complaint("cifar-10", cache)
    assert "did you mean 'digits'?" in complaint("Digit", cache)
    assert "known: cifar10" in complaint("zzzzzz", cache)
    assert "''" in complaint("", cache)


def test_sizes_that_make_no_sense(cache: Path, folder: Path) -> None:
    assert "leave out the size" in complaint("digits", cache, size=16)
    assert "found 0" in complaint(folder, cache, size=0)


# --- downloads ---


class Server(http.server.ThreadingHTTPServer):
    hits: int = 0


@pytest.fixture
def published(tmp_path: Path) -> Iterator[tuple[Remote, Path, Server]]:
    """A tiny CIFAR-like archive behind a real web server: the remote, the archive and the server."""
    from torchvision.datasets import CIFAR10

    draw = np.random.default_rng(0)
    root = tmp_path / "web" / "tiny-py"
    root.mkdir(parents=True)
    pixels = {"one": (6, [0, 1, 0, 1, 0, 1]), "check": (2, [1, 0])}
    for name, (n, labels) in pixels.items():
        data = draw.integers(0, 256, (n, 3072), dtype=np.uint8)
        (root / name).write_bytes(pickle.dumps({"data": data, "labels": labels}))
    (root / "meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))
    archive = tmp_path / "web" / "tiny.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root, root.name)

    def md5(path: Path) -> str:
        return hashlib.md5(path.read_bytes()).hexdigest()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            server.hits += 1
            super().do_GET()

    server = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "web")))

    class Tiny(CIFAR10):  # type: ignore[misc]  # torchvision has no types
        base_folder = root.name
        url = f"http://127.0.0.1:{server.server_port}/tiny.tar.gz"
        filename = archive.name
        tgz_md5 = md5(archive)
        train_list = [["one", md5(root / "one")]]  # noqa: RUF012
        test_list = [["check", md5(root / "check")]]  # noqa: RUF012
        meta = {"filename": "meta", "key": "label_names", "md5": md5(root / "meta")}  # noqa: RUF012

    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield Remote("tiny", "", lambda: Tiny), archive, server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_download_is_fetched_once(published: tuple[Remote, Path, Server], cache: Path) -> None:
    remote, _, server = published
    first = fetched(remote, cache_dir=cache)
    assert first.train.images.shape == (6, 3, 32, 32)
    assert first.train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert first.info.classes == ("cat", "dog")
    assert first.info.augment == Augment(pad=4, flip=True)
    assert "http://127.0.0.1" in first.info.source
    assert sorted(p.name for p in (cache / "downloads").iterdir()) == ["tiny-py"]
    hits = server.hits
    server.shutdown()
    second = fetched(remote, cache_dir=cache)
    assert second.info == first.info
    assert server.hits == hits


def test_a_damaged_download_is_fetched_again(published: tuple[Remote, Path, Server], cache: Path) -> None:
    remote, _, _ = published
    first = fetched(remote, cache_dir=cache)
    part = cache / "downloads" / "tiny-py" / "one"
    part.write_bytes(part.read_bytes()[:50])
    assert fetched(remote, cache_dir=cache).info == first.info
    assert sorted(p.name for p in (cache / "downloads").iterdir()) == ["tiny-py"]


def test_an_archive_put_there_by_hand_needs_no_network(published: tuple[Remote, Path, Server], cache: Path) -> None:
    remote, archive, server = published
    (cache / "downloads").mkdir(parents=True)
    shutil.copy(archive, cache / "downloads")
    server.shutdown()
    server.server_close()
    assert fetched(remote, cache_dir=cache).info.n_train == 6
    assert server.hits == 0


def test_a_damaged_archive_is_named_and_not_touched(published: tuple[Remote, Path, Server], cache: Path) -> None:
    remote, archive, server = published
    (cache / "downloads").mkdir(parents=True)
    mine = cache / "downloads" / archive.name
    mine.write_bytes(archive.read_bytes()[:100])
    assert fetched(remote, cache_dir=cache).info.n_train == 6
    assert mine.stat().st_size == 100
    shutil.rmtree(cache / "downloads" / "tiny-py")
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"tiny\.tar\.gz is damaged"):
        fetched(remote, cache_dir=cache)
    assert mine.stat().st_size == 100


def test_a_wrong_download_is_refused(published: tuple[Remote, Path, Server], cache: Path) -> None:
    remote, archive, _ = published
    archive.write_bytes(archive.read_bytes()[:100])
    with pytest.raises(InputError, match="tiny: expected"):
        fetched(remote, cache_dir=cache)
    assert list((cache / "downloads").iterdir()) == []


def test_a_place_that_cannot_be_written_is_worked_without(
    published: tuple[Remote, Path, Server], tmp_path: Path
) -> None:
    remote, _, _ = published
    (tmp_path / "file").write_text("in the way")
    assert fetched(remote, cache_dir=tmp_path / "file").info.n_train == 6


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_without_a_network_a_name_fails_quickly_and_says_where_to_put_it(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("http_proxy", "https_proxy"):  # nothing listens on the discard port
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache / "hub"))
    began = time.monotonic()
    said = complaint(name, cache)
    assert time.monotonic() - began < 15
    assert str(cache / "downloads") in said
    assert "network" in said
    assert "Parquet folder" in said


# --- Parquet ---


def test_parquet(parquet: Path, cache: Path) -> None:
    pets = load(str(parquet), cache_dir=cache)
    assert pets.info.name == "pets"
    assert pets.info.source == str(parquet)
    assert pets.info.classes == ("cat", "dog")
    assert (pets.info.n_train, pets.info.n_test, pets.info.size, pets.info.channels) == (12, 4, (8, 8), 3)
    assert pets.info.augment == Augment(pad=1, flip=True)
    assert pets.train.labels.tolist() == [i % 2 for i in range(12)]
    for i in range(12):
        assert torch.equal(pets.train.images[i], chw(picture(i)))
    assert pets.info.fingerprint == fingerprint(pets.train, pets.test)
    assert len(pets.info.fingerprint) == 16


def test_parquet_in_other_dress(tmp_path: Path, cache: Path) -> None:
    """Other column names, plain bytes, data/ below, a validation split, names in the data card."""
    root = tmp_path / "thing"
    for split, first in (("train", 0), ("validation", 6)):
        table = pa.table({"image": [png(first + i) for i in range(4)], "fine_label": [0, 1, 2, 1]})
        (root / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet")
    (root / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: fine_label\n"
        "    dtype:\n"
        "      class_label:\n        names:\n          '0': ant\n          '1': bee\n          '2': cow\n"
        "  splits:\n  - name: train\n    num_examples: 4\n---\n# Thing\n"
    )
    thing = load(str(root), cache_dir=cache)
    assert thing.info.classes == ("ant", "bee", "cow")
    assert thing.info.n_test == 4
    assert "validation" in thing.info.source


def test_parquet_with_training_files_only_holds_out_a_fifth(tmp_path: Path, cache: Path) -> None:
    write_parquet(tmp_path / "p" / "train.parquet", [png(i) for i in range(20)], [i % 2 for i in range(20)])
    found = load(str(tmp_path / "p"), cache_dir=cache)
    assert found.info.classes == ("0", "1")
    assert Counter(found.test.labels.tolist()) == {0: 2, 1: 2}
    assert "held out" in found.info.source


def test_parquet_says_which_files_it_leaves_out(parquet: Path, cache: Path) -> None:
    shutil.copy(parquet / "test-00000-of-00001.parquet", parquet / "validation-00000-of-00001.parquet")
    assert "validation files not used" in load(str(parquet), cache_dir=cache).info.source
    assert [len(split.labels) for split in find(parquet).splits] == [12, 4, 4]


def test_grey_parquet_has_one_channel_and_is_not_mirrored(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        images: list[bytes | None] = [png(i, (16, 16), "L") for i in range(4)]
        write_parquet(tmp_path / "g" / f"{split}.parquet", images, [0, 1, 0, 1])
    grey = load(str(tmp_path / "g"), cache_dir=cache)
    assert grey.train.images.shape == (4, 1, 16, 16)
    assert grey.info.augment == Augment(pad=2, flip=False)
    assert torch.equal(grey.train.images[1, 0], torch.from_numpy(np.array(picture(1, (16, 16), "L"))))


def test_parquet_of_many_sizes_needs_a_size(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        images: list[bytes | None] = [png(i, (8 + i, 8)) for i in range(4)]
        write_parquet(tmp_path / "p" / f"{split}.parquet", images, [0, 1, 0, 1])
    said = complaint(tmp_path / "p", cache)
    assert "8x8" in said
    assert "9x8" in said
    assert "give a size" in said
    assert load(str(tmp_path / "p"), cache_dir=cache, size=6).train.images.shape == (4, 3, 6, 6)


@pytest.mark.parametrize("folder_name", ["cifar10", "CIFAR-10"])
def test_cifar_is_recognised_by_its_folder(tmp_path: Path, cache: Path, folder_name: str) -> None:
    for split in ("train", "test"):
        images: list[bytes | None] = [png(i, (32, 32)) for i in range(10)]
        write_parquet(tmp_path / folder_name / f"{split}.parquet", images, list(range(10)))
    found = load(str(tmp_path / folder_name), cache_dir=cache)
    assert found.info.name == "cifar10"
    assert found.info.augment == Augment(pad=4, flip=True)


def test_cifar_is_recognised_by_its_classes_and_not_by_a_folder_that_holds_something_else(
    tmp_path: Path, cache: Path
) -> None:
    for split in ("train", "test"):
        images: list[bytes | None] = [png(i, (32, 32)) for i in range(10)]
        write_parquet(tmp_path / "copy" / f"{split}.parquet", images, list(range(10)), names=CIFAR10_CLASSES)
        write_parquet(tmp_path / "cifar10" / f"{split}.parquet", [png(0), png(1)], [0, 1])
    assert load(str(tmp_path / "copy"), cache_dir=cache).info.name == "cifar10"
    assert load(str(tmp_path / "cifar10"), cache_dir=cache).info.augment == Augment(pad=1, flip=True)


class TestBadParquet:
    def test_a_truncated_file_is_named(self, parquet: Path, cache: Path) -> None:
        file = parquet / "train-00001-of-00002.parquet"
        file.write_bytes(file.read_bytes()[:-200])
        assert "train-00001-of-00002.parquet: expected a whole Parquet file" in complaint(parquet, cache)

    def test_a_file_with_damaged_pages_is_named(self, parquet: Path, cache: Path) -> None:
        file = parquet / "train-00000-of-00002.parquet"
        whole = bytearray(file.read_bytes())
        whole[4:120] = bytes(116)
        file.write_bytes(whole)
        assert "train-00000-of-00002.parquet" in complaint(parquet, cache)

    def test_an_empty_file_is_named(self, parquet: Path, cache: Path) -> None:
        (parquet / "test-00000-of-00001.parquet").write_bytes(b"")
        assert "test-00000-of-00001.parquet" in complaint(parquet, cache)

    def test_a_truncated_image_is_named_by_file_and_row(self, parquet: Path, cache: Path) -> None:
        write_parquet(
            parquet / "test-00000-of-00001.parquet",
            [png(1), png(2)[:70], png(3)],
            [0, 1, 0],
            names=("cat", "dog"),
        )
        said = complaint(parquet, cache)
        assert "test-00000-of-00001.parquet row 1: expected a whole image" in said

    def test_an_image_that_is_missing_is_named(self, parquet: Path, cache: Path) -> None:
        write_parquet(parquet / "test-00000-of-00001.parquet", [png(1), None], [0, 1], names=("cat", "dog"))
        assert "row 1" in complaint(parquet, cache)

    def test_a_missing_shard_is_named(self, parquet: Path, cache: Path) -> None:
        (parquet / "train-00001-of-00002.parquet").unlink()
        assert "00001" in complaint(parquet, cache)

    def test_missing_columns_list_those_that_are_there(self, parquet: Path, cache: Path) -> None:
        write_parquet(parquet / "train-00000-of-00002.parquet", [png(0)], [0], image="photo")
        said = complaint(parquet, cache)
        assert "img or image" in said
        assert "photo, label" in said
        write_parquet(parquet / "train-00000-of-00002.parquet", [png(0)], [0], label="target")
        said = complaint(parquet, cache)
        assert "label or fine_label" in said
        assert "img, target" in said

    def test_files_that_differ_in_columns(self, parquet: Path, cache: Path) -> None:
        write_parquet(parquet / "test-00000-of-00001.parquet", [png(0)], [0], image="image")
        assert "test-00000-of-00001.parquet: expected the columns img and label" in complaint(parquet, cache)

    def test_columns_of_the_wrong_kind(self, tmp_path: Path, cache: Path) -> None:
        (tmp_path / "p").mkdir()
        file = tmp_path / "p" / "train.parquet"
        pq.write_table(pa.table({"img": [png(0)], "label": ["cat"]}), file)
        assert "integers in the column label, found string" in complaint(tmp_path / "p", cache)
        pq.write_table(pa.table({"img": [[1, 2]], "label": [0]}), file)
        assert "encoded images" in complaint(tmp_path / "p", cache)

    @pytest.mark.parametrize("label", [-1, 2])
    def test_labels_out_of_range(self, parquet: Path, cache: Path, label: int) -> None:
        file = parquet / "test-00000-of-00001.parquet"
        write_parquet(file, [png(0), png(1)], [0, label], names=("cat", "dog"))
        said = complaint(parquet, cache)
        assert "from 0 to 1" in said
        assert f"found {label}" in said

    def test_labels_with_gaps_and_no_names(self, tmp_path: Path, cache: Path) -> None:
        write_parquet(tmp_path / "p" / "train.parquet", [png(i) for i in range(4)], [1, 2, 1, 10**9])
        assert "found 1 to 1000000000" in complaint(tmp_path / "p", cache)

    def test_a_row_without_label(self, parquet: Path, cache: Path) -> None:
        write_parquet(parquet / "test-00000-of-00001.parquet", [png(0)], [None], names=("cat", "dog"))
        assert "a label in every row" in complaint(parquet, cache)

    def test_one_class_only(self, parquet: Path, cache: Path) -> None:
        for i in range(2):
            file = parquet / f"train-{i:05d}-of-00002.parquet"
            write_parquet(file, [png(0), png(1)], [1, 1], names=("cat", "dog"))
        assert "found one, 'dog'" in complaint(parquet, cache)

    def test_no_rows(self, parquet: Path, cache: Path) -> None:
        write_parquet(parquet / "test-00000-of-00001.parquet", [], [], names=("cat", "dog"))
        assert "test split holds no images" in complaint(parquet, cache)

    def test_no_training_files(self, tmp_path: Path, cache: Path) -> None:
        write_parquet(tmp_path / "p" / "stuff.parquet", [png(0)], [0])
        assert "train-*.parquet, found stuff.parquet" in complaint(tmp_path / "p", cache)

    def test_two_data_sets_in_one_folder(self, parquet: Path, cache: Path) -> None:
        for name in ("a", "b"):
            shutil.copytree(parquet, parquet.parent / "both" / name)
        assert "a, b" in complaint(parquet.parent / "both", cache)


# --- image folders ---


def test_folder(folder: Path, cache: Path) -> None:
    pets = load(str(folder), cache_dir=cache)
    assert pets.info.classes == ("cat", "dog")
    assert (pets.info.n_train, pets.info.n_test, pets.info.size, pets.info.channels) == (10, 3, (8, 8), 3)
    assert pets.train.labels.tolist() == [0] * 6 + [1] * 4
    assert torch.equal(pets.train.images[6], chw(picture(10)))
    assert torch.equal(pets.test.images[2], chw(picture(30)))
    assert "val/" in pets.info.source


@pytest.mark.parametrize("name", ["validation", "test"])
def test_folder_with_another_name_for_the_test_set(folder: Path, cache: Path, name: str) -> None:
    (folder / "val").rename(folder / name)
    pets = load(str(folder), cache_dir=cache)
    assert pets.info.n_test == 3
    assert f"{name}/" in pets.info.source


def test_a_test_folder_goes_before_a_validation_folder_and_says_so(folder: Path, cache: Path) -> None:
    write_images(folder / "test" / "cat", 1, first=40)
    pets = load(str(folder), cache_dir=cache)
    assert pets.info.n_test == 1
    assert "test/, val/ not used" in pets.info.source


def test_class_folders_alone_give_a_fixed_fifth(folder: Path, cache: Path) -> None:
    direct = load(str(folder / "train"), cache_dir=cache)
    shutil.rmtree(folder / "val")
    under = load(str(folder), cache_dir=cache)
    assert direct.info.fingerprint == under.info.fingerprint
    assert Counter(direct.test.labels.tolist()) == {0: 1, 1: 1}
    assert direct.info.n_train == 8
    assert "fifth" in direct.info.source
    assert "fifth" in under.info.source


def test_other_formats_modes_and_hidden_folders(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "mixed"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i, suffix in enumerate(("png", "JPG", "jpeg", "bmp", "webp", "ppm")):
            picture(i).save(root / name / f"{i}.{suffix}")
        picture(7, mode="L").save(root / name / "grey.png")
        picture(8).quantize(4).save(root / name / "palette.png", transparency=bytes([0, 9, 255, 255]))
        picture(9).convert("RGBA").save(root / name / "alpha.png")
        (root / name / "notes.txt").write_text("no image")
    (root / ".thumbnails").mkdir()
    found = load(str(root), cache_dir=cache)
    assert found.info.classes == ("a", "b")
    assert found.info.n_train + found.info.n_test == 18
    assert found.info.channels == 3


def test_folders_of_many_sizes_are_cropped_to_32_or_as_told(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "many"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        wide = Image.new("RGB", (120, 40), (255, 0, 0))
        wide.paste((0, 0, 255), (40, 0, 80, 40))  # blue in the middle third, which is what the crop keeps
        wide.save(root / name / "wide.png")
        Image.new("RGB", (20, 50), (0, 0, 255)).save(root / name / "tall.png")
    assert load(str(root), cache_dir=cache).info.size == (32, 32)
    small = load(str(root), cache_dir=cache, size=10)
    assert small.train.images.shape[2:] == (10, 10)
    for images in (small.train.images, small.test.images):
        assert bool((images[:, 2, :, 2:-2] == 255).all())
        assert bool((images[:, 0, :, 2:-2] == 0).all())


def test_folders_of_one_size_keep_it_even_if_not_square(tmp_path: Path, cache: Path) -> None:
    for name in ("a", "b"):
        write_images(tmp_path / "wide" / name, 3, size=(12, 8))
    assert load(str(tmp_path / "wide"), cache_dir=cache).info.size == (8, 12)


class TestBadFolder:
    def test_missing(self, tmp_path: Path, cache: Path) -> None:
        said = complaint(tmp_path / "no" / "such", cache)
        assert "found nothing there" in said
        assert f"{tmp_path} exists" in said

    def test_a_file(self, tmp_path: Path, cache: Path) -> None:
        (tmp_path / "file").write_text("x")
        assert "found another file" in complaint(tmp_path / "file", cache)

    def test_empty(self, tmp_path: Path, cache: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert "found an empty folder" in complaint(tmp_path / "empty", cache)

    def test_images_without_class_folders(self, tmp_path: Path, cache: Path) -> None:
        write_images(tmp_path / "flat", 3)
        assert "the images are not in class folders and have no list of labels" in complaint(tmp_path / "flat", cache)

    def test_a_flat_validation_folder(self, folder: Path, cache: Path) -> None:
        shutil.rmtree(folder / "val")
        write_images(folder / "val", 2)
        assert "val: the images are not in class folders and have no list of labels" in complaint(folder, cache)

    def test_nothing_known(self, tmp_path: Path, cache: Path) -> None:
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "notes.txt").write_text("x")
        assert "neither class folders nor Parquet files" in complaint(tmp_path / "x", cache)

    def test_one_class(self, tmp_path: Path, cache: Path) -> None:
        write_images(tmp_path / "one" / "cat", 3)
        assert "found one, 'cat'" in complaint(tmp_path / "one", cache)

    def test_a_class_without_images(self, folder: Path, cache: Path) -> None:
        (folder / "train" / "emu").mkdir()
        assert "emu: expected images" in complaint(folder, cache)

    def test_one_image_each(self, tmp_path: Path, cache: Path) -> None:
        for i, name in enumerate(("a", "b")):
            write_images(tmp_path / "few" / name, 1, first=i)
        assert "found one each" in complaint(tmp_path / "few", cache)

    def test_validation_without_training(self, folder: Path, cache: Path) -> None:
        shutil.rmtree(folder / "train")
        assert "expected train/ beside val/" in complaint(folder, cache)

    def test_classes_that_are_not_in_training(self, folder: Path, cache: Path) -> None:
        write_images(folder / "val" / "emu", 1)
        assert "found emu" in complaint(folder, cache)

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
    def test_a_truncated_image_is_named(self, folder: Path, cache: Path, suffix: str) -> None:
        file = folder / "train" / "dog" / f"broken.{suffix}"
        picture(1, (64, 64)).save(file)
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
        assert f"broken.{suffix}: expected a whole image" in complaint(folder, cache, size=8)

    def test_an_empty_image_and_a_broken_link_are_named(self, folder: Path, cache: Path) -> None:
        file = folder / "train" / "dog" / "nothing.png"
        file.write_bytes(b"")
        said = complaint(folder, cache)
        assert "nothing.png" in said
        assert "0x" not in said
        file.unlink()
        file.symlink_to("gone.png")
        assert "nothing.png" in complaint(folder, cache)

    def test_numbers_of_an_unknown_range(self, folder: Path, cache: Path) -> None:
        Image.fromarray(np.arange(64, dtype=np.float32).reshape(8, 8)).save(folder / "train" / "dog" / "deep.tiff")
        assert "deep.tiff" in (said := complaint(folder, cache))
        assert "floating-point numbers from 0 to 63, expected 0 to 1" in said

    def test_more_than_memory_should_hold(self, folder: Path, cache: Path) -> None:
        said = complaint(folder, cache, size=20_000)
        assert "at most 4 GB" in said
        assert "15.6 GB" in said


# --- the parts ---


def test_held_out_is_fixed_and_hardly_moves_when_an_item_comes_in() -> None:
    keys = [f"cat/{i}.png" for i in range(50)]
    chosen = held_out(keys, [0] * 50, {0: 10})
    assert sum(chosen) == 10
    names = {k for k, out in zip(keys, chosen, strict=True) if out}
    more = ["cat/new.png", *keys]
    again = {k for k, out in zip(more, held_out(more, [0] * 51, {0: 10}), strict=True) if out}
    assert len(names & again) >= 9


def test_threads_keep_the_order_and_read_only_a_little_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    results = decoding.in_threads(lambda i: i * 2, items())
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(taken) < 100
    results.close()  # type: ignore[attr-defined]  # it is a generator


def test_threads_begin_nothing_while_the_caller_computes() -> None:
    """Of what was read ahead, beyond what was under way when the caller got its first."""
    begun, taken = [], []

    def work(i: int) -> int:
        begun.append(i)
        time.sleep(0.05)
        return i

    def items() -> Iterator[int]:
        for i in range(1000):
            taken.append(i)
            yield i

    results = decoding.in_threads(work, items(), while_the_caller_computes=False)
    assert next(results) == 0
    time.sleep(0.3)
    assert 0 < len(begun) < len(taken)
    assert [next(results) for _ in range(50)] == list(range(1, 51))
    results.close()  # type: ignore[attr-defined]  # it is a generator


def test_fingerprints_tell_pixels_labels_and_splits_apart(folder: Path, cache: Path) -> None:
    from reslab.data.sources import ImageSet

    pets = load(str(folder), cache_dir=cache)
    other = ImageSet(pets.train.images, pets.train.labels.flip(0))
    darker = ImageSet(pets.train.images // 2, pets.train.labels)
    marks = {
        fingerprint(pets.train, pets.test),
        fingerprint(pets.test, pets.train),
        fingerprint(other, pets.test),
        fingerprint(darker, pets.test),
    }
    assert len(marks) == 4


# --- the real thing ---


@pytest.mark.skipif(not CIFAR10.is_dir(), reason="no CIFAR-10 at ../shared/data/cifar10 or $RESLAB_CIFAR10")
def test_the_whole_of_cifar10(cache: Path) -> None:
    cifar = load(str(CIFAR10), cache_dir=cache)
    assert cifar.info.name == "cifar10"
    assert cifar.info.augment == Augment(pad=4, flip=True)
    assert cifar.info.classes == CIFAR10_CLASSES
    assert cifar.train.images.shape == (50_000, 3, 32, 32)
    assert cifar.test.images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(cifar.train.labels).tolist() == [5_000] * 10
    assert torch.bincount(cifar.test.labels).tolist() == [1_000] * 10
    # the channel means that everyone normalises with
    means = cifar.train.images.float().mean((0, 2, 3)) / 255
    torch.testing.assert_close(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4, rtol=0)
    began = time.monotonic()
    again = load(str(CIFAR10), cache_dir=cache)
    assert time.monotonic() - began < 5
    assert again.info == cifar.info
    assert torch.equal(again.train.images, cifar.train.images)
