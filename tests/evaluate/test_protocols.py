"""Protocols as plain values: what they say, what they refuse, and that they survive being written down."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reslab.errors import InputError
from reslab.evaluate.protocols import SCALES, Ensemble, MultiScale, OneCrop, Protocol, TenCrop, suited
from reslab.weights.preprocessing import Preprocessing

ADAPTER: TypeAdapter[Protocol] = TypeAdapter(Protocol)

CHECKED = settings(max_examples=60, deadline=None, derandomize=True)


def carried(crop: int = 224, resize: int | None = None) -> Preprocessing:
    return Preprocessing(mean=(0.5,) * 3, std=(0.25,) * 3, crop=(crop, crop), resize=resize)


def test_the_papers_sizes_at_the_papers_crop() -> None:
    assert suited("one-crop", carried(resize=256)) == OneCrop(crop=(224, 224), resize=256)
    assert suited("ten-crop", carried()) == TenCrop(crop=(224, 224), resize=256)
    assert suited("ten-crop", carried(resize=232)) == TenCrop(crop=(224, 224), resize=232)
    found = suited("multi-scale", carried())
    assert found == MultiScale(scales=(224, 256, 384, 480, 640), flip=True, window=(7, 7))
    assert (found.views, suited("ten-crop", carried()).views, suited("one-crop", carried()).views) == (10, 10, 1)


def test_in_proportion_at_other_crops() -> None:
    small = carried(32)
    assert suited("ten-crop", small) == TenCrop(crop=(32, 32), resize=37)
    found = suited("multi-scale", small, window=(8, 8))
    assert found == MultiScale(scales=(32, 37, 55, 69, 91), window=(8, 8))
    given = suited("multi-scale", small, scales=(32, 40), window=(1, 1))
    assert isinstance(given, MultiScale)
    assert given.scales == (32, 40)
    assert suited("multi-scale", carried(1)).views == 6, "224 and 256 come to one size there: 1, 2, 3"


@CHECKED
@given(
    st.one_of(
        st.builds(OneCrop, crop=st.just((8, 9)), resize=st.none() | st.integers(9, 20)),
        st.builds(OneCrop, crop=st.just((8, 9)), test_time=st.sampled_from(["flip", "flip-shift"])),
        st.builds(TenCrop, crop=st.just((8, 9)), resize=st.integers(9, 20)),
        st.builds(MultiScale, flip=st.booleans(), window=st.tuples(st.integers(1, 9), st.integers(1, 9))),
        st.builds(Ensemble, members=st.just((OneCrop(crop=(8, 8)), MultiScale(scales=(9,))))),
    )
)
def test_written_down_and_read_again(protocol: Protocol) -> None:
    again = ADAPTER.validate_json(protocol.model_dump_json())
    assert again == protocol
    assert type(again) is type(protocol)
    assert "\n" not in protocol.words()


def test_what_people_read() -> None:
    assert OneCrop(crop=(32, 32)).words() == "32x32"
    assert OneCrop(crop=(32, 32), test_time="flip").words() == "32x32, logits averaged over 2 passes (flips)"
    assert TenCrop(crop=(224, 224), resize=256).words() == (
        "corners and centre 224x224 of shorter side 256, and their mirror images, softmax scores averaged"
    )
    assert "shorter sides 224, 256, 384, 480, 640 and mirror images" in MultiScale().words()
    assert "mirror" not in MultiScale(flip=False).words()
    both = Ensemble(members=(OneCrop(crop=(8, 8)), OneCrop(crop=(8, 8)), TenCrop(crop=(8, 8), resize=9)))
    assert both.words() == "mean of the softmax scores of 3 members (one-crop, ten-crop)"
    called = [OneCrop(crop=(8, 8), test_time=each).called for each in ("none", "flip", "flip-shift")]
    assert called == ["one-crop", "flips", "flips and shifts"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            {"kind": "ten-crop", "test_time": "flip"},
            "one-crop; ten-crop has mirror images",
        ),
        ({"kind": "multi-scale", "test_time": "flip"}, "--test-time goes with --protocol one-crop"),
        ({"kind": "one-crop", "scales": (8,)}, "--scales goes with --protocol multi-scale, not with one-crop"),
        ({"kind": "multi-scale", "scales": (8, 8)}, "--scales takes different numbers of pixels"),
        ({"kind": "multi-scale", "scales": (0,)}, "--scales takes different numbers of pixels of 1 or more, got 0"),
        ({"kind": "ten-crop", "resize": 200}, "expected a shorter side of at least the crop's 224 pixels, found 200"),
    ],
)
def test_what_does_not_go_together(words: dict[str, object], said: str) -> None:
    given = carried(resize=words.pop("resize", None))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=said):
        suited(words.pop("kind"), given, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "ten-crop", "crop": [8, 8], "resize": 7},
        {"name": "multi-scale", "scales": []},
        {"name": "multi-scale", "scales": [8, 8]},
        {"name": "multi-scale", "window": [0, 1]},
        {"name": "one-crop", "crop": [8, 8], "scales": [8]},
        {"name": "two-crop"},
        {"name": "ensemble", "members": []},
    ],
)
def test_values_that_are_no_protocol(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(wrong)


def test_the_scales_are_those_of_the_paper() -> None:
    assert SCALES == (224, 256, 384, 480, 640)
