"""Which output is which class: by name where names are known, by order where that is all there is, and said."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reslab.data.labels import ilsvrc, outputs
from reslab.errors import InputError


def refusal(*arguments: object, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        outputs(*arguments, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_imagenets_ids() -> None:
    ids = ilsvrc()
    assert len(ids) == len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    assert all(re.fullmatch(r"n\d{8}", name) for name in ids)
    # Tench, goldfish; the two ends and landmarks that everyone knows by number.
    for number, name in {0: "n01440764", 1: "n01443537", 207: "n02099601", 281: "n02123045", 999: "n15075141"}.items():
        assert ids[number] == name


def test_by_the_names_of_the_weights() -> None:
    found = outputs(("dog", "cat"), 3, names=("ant", "cat", "dog"))
    assert found.numbers == (2, 1)
    assert found.said == "by the class names in the weights"
    with_all = outputs(("ant", "cat", "dog"), 3, names=("dog", "ant", "cat"))
    assert with_all.numbers == (1, 2, 0), "by name, though the order would go as well"


def test_imagenets_folders_whatever_the_weights_call_them() -> None:
    folders = ("n15075141", "n01440764", "n02123045")
    for names in (None, tuple(f"word {i}" for i in range(1000))):
        found = outputs(folders, 1000, names=names)
        assert found.numbers == (999, 0, 281)
        assert found.said == "by ImageNet's WordNet ids"
    assert outputs(ilsvrc(), 1000).numbers == tuple(range(1000))
    # Of another number of outputs, or with a synset beyond the thousand, ids say nothing.
    assert "3 classes" in refusal(folders, 21843)
    assert "4 classes" in refusal((*folders, "n00000001"), 1000)


def test_by_order_only_where_nothing_is_named_and_the_numbers_agree() -> None:
    found = outputs(("b", "a"), 2)
    assert found.numbers == (0, 1)
    assert found.said == "in the order of the data's classes (the weights contain no names)"
    said = refusal(("a", "b"), 1000)
    assert "the data has 2 classes (a, b, ...), the network 1000 outputs" in said
    assert "--outputs FILE" in said


def test_a_file_of_names_wins(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("cat\n\n  dog \nant\n", encoding="utf-8")
    for names in (None, ("ant", "cat", "dog"), ("x", "y", "z")):
        found = outputs(("ant", "dog"), 3, names=names, file=file)
        assert found.numbers == (2, 1)
        assert found.said == f"by the names in {file}"


def test_what_does_not_go_together(tmp_path: Path) -> None:
    assert "the weights contain the names of 2 classes, but the network has 3 outputs" in refusal(
        ("a",), 3, names=("a", "b")
    )
    said = refusal(("a", "emu", "gnu"), 3, names=("a", "b", "c"))
    assert "the weights know no class 'emu' (2 of the data's 3 classes), but a, b, c; rename the folders" in said
    assert "but a, b, c, d, ...; rename" in refusal(("emu",), 5, names=tuple("abcde"))
    assert "two outputs are named 'a'" in refusal(("a",), 2, names=("a", "a"))
    assert outputs(("b",), 3, names=("a", "b", "a")).numbers == (1,), "only classes that the data has can be confused"
    file = tmp_path / "names.txt"
    assert f"--outputs {file}: expected a text file" in refusal(("a",), 2, file=file)
    file.write_bytes(b"\xff\xfe\x00")
    assert "expected a text file" in refusal(("a",), 2, file=file)
    file.write_text("a\nb\nc\n")
    assert "expected 2 names, one for each output, found 3" in refusal(("a",), 2, file=file)
    file.write_text("a\nb\n")
    assert f"no output is named 'c' (1 such classes); outputs were found by the names in {file}" in refusal(
        ("a", "c"), 2, file=file
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    names=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=12, unique=True),
    data=st.data(),
)
def test_the_output_of_a_class_bears_its_name(names: list[str], data: st.DataObject) -> None:
    classes = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    found = outputs(classes, len(names), names=names)
    assert [names[number] for number in found.numbers] == classes
