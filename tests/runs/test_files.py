"""Files that are old or new and never half, and run directories that belong to one run."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from reslab.errors import InputError
from reslab.runs import RunDir, append_line, is_temporary, read_json, write_atomic, write_json
from reslab.runs.files import read_lines, write_text

RECIPE = {"net": "a", "lr": 0.1}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def half(temporary: Path) -> None:
        temporary.write_text('{"a": ')
        raise OSError("disk full")

    for stop in (KeyboardInterrupt, OSError):
        with pytest.raises(stop):
            write_atomic(path, half if stop is OSError else _interrupted)
        assert read_json(path) == {"a": 1}
        assert listing(tmp_path) == ["a.json"]


def _interrupted(temporary: Path) -> None:
    temporary.write_text("half")
    raise KeyboardInterrupt


def test_while_it_is_written_a_reader_sees_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, "old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text('"new"')
        assert is_temporary(temporary)
        assert temporary.parent == path.parent  # a rename does not cross file systems
        seen.append(read_json(path))

    write_atomic(path, write)
    assert seen == ["old"]
    assert read_json(path) == "new"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}])
def test_what_json_has_no_word_for_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", value)
    with pytest.raises(ValueError, match="JSON compliant"):
        append_line(tmp_path / "a.jsonl", {"a": value})
    assert not (tmp_path / "a.json").exists()
    assert read_lines(tmp_path / "a.jsonl") == []


def test_missing_and_damaged_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected the file .*a.json, but it does not exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'{"a": \xff')
    with pytest.raises(InputError, match=r"a.json is damaged: expected JSON"):
        read_json(tmp_path / "a.json")


def test_a_last_line_cut_short_is_left_out_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for i in (1, 2):
        append_line(path, {"iteration": i, "text": "ä\n"})
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = [line["iteration"] for line in read_lines(path)]
        # A line is whole once its brace is there, with or without the line end.
        assert found == [1] * (length >= first - 1) + [2] * (length >= len(whole) - 1), length


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"iteration": 1}\n{"iter\n{"iteration": 3}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl, line 2 is damaged"):
        read_lines(path)


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []


def test_metrics_are_cut_back_byte_for_byte(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.create(RECIPE, {})
    values = [0.1, 1 / 3, 1e-300, 73.33333333333333, None]
    for i, value in enumerate(values, 1):
        append_line(run.metrics, {"iteration": i, "train_error": value})
        append_line(run.speed, {"iteration": i})
    whole = run.metrics.read_text().splitlines(keepends=True)
    with run.metrics.open("a") as file:
        file.write('{"iteration": 6, "tr')
    run.truncate_metrics(5)
    assert run.metrics.read_text() == "".join(whole)
    run.truncate_metrics(3)
    assert run.metrics.read_text() == "".join(whole[:3])
    assert len(read_lines(run.speed)) == 3
    run.truncate_metrics(0)
    assert run.read_metrics() == []
    assert not any(map(is_temporary, run.path.iterdir()))


def test_a_run_is_created_once(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "deep" / "run")
    run.create(RECIPE, {"started": 1})
    assert (run.exists, run.finished) == (True, False)
    assert listing(run.path) == ["checkpoints", "env.json", "recipe.json"]
    run.create(RECIPE, {"started": 2})
    assert read_json(run.env) == {"started": 1}  # where and when it was started does not change
    with pytest.raises(InputError, match=r"already holds a run of another recipe; .* --resume .*run$"):
        run.create({**RECIPE, "lr": 0.2}, {})
    assert read_json(run.recipe) == RECIPE


@pytest.mark.parametrize("name", ["photo.jpg", ".hidden", "env.json", "checkpoints/old.pt"])
def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(InputError, match="exists and is not a run; choose a new or an empty folder"):
        RunDir(tmp_path / "run").create(RECIPE, {})
    assert path.read_text() == "mine"
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="exists and is not a run"):
        RunDir(tmp_path / "file").create(RECIPE, {})
    with pytest.raises(InputError, match="cannot be written: Not a directory"):
        RunDir(tmp_path / "file" / "x").create(RECIPE, {})
    with pytest.raises(InputError, match="cannot be written"), RunDir(tmp_path / "file" / "x").lock():
        pass


@pytest.mark.parametrize("left", [[], ["checkpoints"], ["checkpoints", ".env.json.7.tmp"], ["checkpoints", "env.json"],
                                  ["checkpoints", "env.json", ".recipe.json.7.tmp", ".lock"], [".lock"]])  # fmt: skip
def test_a_start_that_was_killed_can_be_started_again(tmp_path: Path, left: list[str]) -> None:
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    for name in left:
        (run.path / name).mkdir() if name == "checkpoints" else (run.path / name).touch()
    with run.lock():
        run.create(RECIPE, {"started": 2})
        run.clean()
    assert listing(run.path) == [".lock", "checkpoints", "env.json", "recipe.json"]
    assert read_json(run.env) == {"started": 2}


def test_clean_takes_temporary_files_only(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.create(RECIPE, {})
    keep = run.checkpoints / "iteration-00000001.safetensors"
    keep.touch()
    for path in (run.path / ".metrics.jsonl.12.tmp", run.checkpoints / f".{keep.name}.12.tmp"):
        path.touch()
    run.clean()
    assert listing(run.path) == ["checkpoints", f"checkpoints/{keep.name}", "env.json", "recipe.json"]


HOLD = """
import sys
from pathlib import Path
from reslab.runs import RunDir
with RunDir(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_kept_out_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.create(RECIPE, {})
    with subprocess.Popen(
        (sys.executable, "-c", HOLD, str(run.path)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=r"another process is writing the run .*; wait for it or stop it"),
            run.lock(),
        ):
            pass
        other.kill()
    with run.lock():
        pass
    with run.lock(), pytest.raises(InputError, match="another process"), run.lock():
        pass


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from reslab.errors import InputError
from reslab.runs import RunDir
if os.geteuid() == 0:
    os.setuid(65534)
for target in sys.argv[1:]:
    try:
        RunDir(Path(target)).create({}, {})
        print("made")
    except InputError as error:
        print(error)
"""


def test_a_folder_that_may_not_be_read_is_a_users_mistake() -> None:
    """As another user than root, whom nothing is forbidden."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        private, mine = top / "private", top / "mine"
        private.mkdir(mode=0o700)
        mine.mkdir()
        mine.chmod(0o555)
        top.chmod(0o755)
        if os.geteuid() != 0:
            private.chmod(0)
        targets = [str(path) for path in (private, private / "run", mine / "run")]
        done = subprocess.run((sys.executable, "-c", AS_ANOTHER_USER, *targets), capture_output=True, text=True)
        private.chmod(0o700)
        mine.chmod(0o755)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line, target, what in zip(lines, targets, ("read", "read", "written"), strict=True):
        assert line == f"--out {target} cannot be {what}: Permission denied"


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "λ\n")
    assert (tmp_path / "a.txt").read_bytes() == "λ\n".encode()
