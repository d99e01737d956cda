"""What is decoded, and what is refused before it costs anything."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from reslab.data.decode.whole import Encoded, Fit, fitted_image, whole
from reslab.deploy.serve.decoding import HEADER, LENGTH, READY, SIZE, How, Rejected, Reply, decoded, reply, serve

from .pictures import animation, bomb, of_many_scans, photograph

FITTED = How(channels=3, crop=(24, 24), resize=28)
WHOLE = How(channels=3, crop=None, most_pixels=1_000_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "MPO"])
def test_pixels_are_those_that_the_network_was_evaluated_with(kind: str) -> None:
    data = photograph(kind=kind)
    expected = fitted_image(whole(Encoded("x", data, oriented=True), 3), Fit((24, 24), 28))
    assert np.array_equal(decoded(data, FITTED), np.asarray(expected))


def test_whole_and_grey() -> None:
    assert decoded(photograph(50, 20), WHOLE).shape == (20, 50, 3)
    assert decoded(photograph(50, 20), WHOLE.model_copy(update={"channels": 1})).shape == (20, 50, 1)


def test_the_orientation_of_the_camera() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = photograph(50, 20, "JPEG", exif=exif)
    assert decoded(data, WHOLE).shape == (50, 20, 3)
    assert decoded(data, WHOLE.model_copy(update={"oriented": False})).shape == (20, 50, 3)


def test_of_an_animation_the_first_picture() -> None:
    assert decoded(animation(2), WHOLE)[0, 0].tolist() == [255, 0, 0]


def test_ten_thousand_pictures_cost_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = animation(10_000)
    read: list[int] = []
    before = io.BytesIO.read

    class Counting(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            found = before(self, count)
            read.append(len(found))
            return found

    monkeypatch.setattr("reslab.data.decode.whole.io.BytesIO", Counting)
    assert decoded(data, WHOLE)[0, 0].tolist() == [255, 0, 0]
    few = len(read)
    read.clear()
    decoded(animation(2), WHOLE)
    assert few < len(read) + 10


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (b"", Reply.NO_IMAGE, "expected an image: JPEG, PNG, WEBP, GIF"),
        (b"\xff" * 100, Reply.NO_IMAGE, "expected an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///x'/></svg>", Reply.NO_IMAGE, "expected"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", Reply.NO_IMAGE, "expected an image"),
        (photograph(kind="BMP"), Reply.NO_IMAGE, "expected an image"),
        (photograph(kind="TIFF"), Reply.NO_IMAGE, "expected an image"),
        (photograph()[:200], Reply.DAMAGED, "damaged"),
        (photograph(kind="JPEG")[:-300], Reply.DAMAGED, "damaged"),
        (bomb(8_000, 8_000), Reply.TOO_LARGE, "1,000,000 pixels, and this one has 8,000 x 8,000"),
        (of_many_scans(200), Reply.DAMAGED, "more than 100 passes"),
    ],
    ids=["nothing", "noise", "svg", "eps", "bmp", "tiff", "cut png", "cut jpeg", "bomb", "scans"],
)  # fmt: skip
def test_what_is_refused(data: bytes, kind: Reply, why: str) -> None:
    with pytest.raises(Rejected, match=why) as rejected:
        decoded(data, WHOLE)
    assert rejected.value.kind == kind


def test_a_hundred_scans_are_none_too_many() -> None:
    assert decoded(of_many_scans(50), WHOLE).shape == (30, 40, 3)


def test_a_strip_that_would_be_enlarged_beyond_measure() -> None:
    with pytest.raises(Rejected, match="20,000 x 1 pixels are too long and narrow"):
        decoded(photograph(20_000, 1), FITTED.model_copy(update={"most_pixels": 100_000}))


def test_a_name_in_a_damaged_file_is_shown_as_plain_letters() -> None:
    kind, payload = reply(photograph()[:60], WHOLE)
    assert kind == Reply.DAMAGED
    assert payload.decode("ascii").isprintable()


def test_the_protocol() -> None:
    good, bad = photograph(5, 4), b"no image"
    source = io.BytesIO(b"".join(LENGTH.pack(len(data)) + data for data in (good, bad)))
    sink = io.BytesIO()
    serve(source, sink, WHOLE)
    answer = sink.getvalue()
    assert answer.startswith(READY)
    kind, length = HEADER.unpack_from(answer, 1)
    at = 1 + HEADER.size
    assert (kind, SIZE.unpack_from(answer, at)) == (Reply.PIXELS, (4, 5, 3))
    assert answer[at + SIZE.size : at + length] == decoded(good, WHOLE).tobytes()
    kind, length = HEADER.unpack_from(answer, at + length)
    assert (kind, struct.calcsize(">B")) == (Reply.NO_IMAGE, 1)
