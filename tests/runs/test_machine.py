"""What a file of results says of how it came about."""

import pytest

from reslab.runs import called, made


def test_a_command_as_it_was_given_without_its_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/a/benchmarks/start.py", "--data", "/a/my set", "--net", "cifar_resnet(depth=8)", "--rounds", "5"]
    monkeypatch.setattr("sys.argv", words)
    said = "python benchmarks/start.py --data 'my set' --net 'cifar_resnet(depth=8)' --rounds 5"
    assert called() == said
    about = made(threads=2)
    assert about["command"] == said
    assert about["machine"]["threads"] == "2"
    assert {"cpu", "cores", "torch", "git_commit"} <= about["machine"].keys()
    assert about["when"].startswith("20")
