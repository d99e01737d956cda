"""What tests of several rooms share: the command line called in this process, as a terminal would call it."""

import gc
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

Reslab = Callable[..., tuple[int, str, str]]

# Our kernels wherever there are any: what a machine at work finds quicker would change what is tested.
os.environ.setdefault("RESLAB_KERNELS", "own")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has a core to itself; threads that wait for each other across workers take ten times as long.
    # Where a test has several of its own, those that wait leave the core to others, too.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "passive"

# The collector of cycles takes a tenth of the suite's time to look again at what the libraries hold all session long.
gc.set_threshold(20_000, 20, 100)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job is deaf to Ctrl-C, and so would be the commands that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if not Path("/dev/nvidiactl").exists():
    # Without a GPU Triton's kernels are run by its interpreter, which has to be asked for before Triton is imported.
    os.environ["TRITON_INTERPRET"] = "1"


SLOW = {
    "bench/test_bench_command.py", "bench/test_gpu_agenda.py", "cli/test_export.py", "cli/test_processes.py",
    "data/test_cache.py", "deploy/test_artefact_commands.py", "deploy/test_catalogue.py", "deploy/test_export.py",
    "deploy/serve/test_of_artefact.py", "deploy/serve/test_page.py", "deploy/serve/test_schema.py",
    "deploy/test_quantize.py",
    "kernels/test_triton_compiles.py", "nets/test_properties.py",
    "parity/test_timm.py", "parity/test_torchvision.py", "probes/test_xray.py",
    "report/test_pages_in_a_browser.py", "report/test_report_browser.py",
    "resume/test_kill.py", "resume/test_kill_photographs.py", "resume/test_ranks.py", "resume/test_sync.py",
    "studies/test_degradation.py", "studies/test_on_ray.py", "studies/test_runs_of_studies.py",
    "studies/test_together.py", "test_processes.py", "train/test_device.py", "train/test_inductor.py",
    "train/test_memory.py", "train/test_on_gpu.py", "weights/test_hub_server.py",
}  # fmt: skip
"""Modules whose tests take seconds each: clusters, killed processes, browsers, other libraries' largest networks."""
SLOW_TESTS = {
    "detect/test_gpu_job.py": ("test_detectors_are_rehearsed",),
    "bench/test_paired.py": ("test_processes_of_their_own_take_turns",),
    "cli/test_bad_input.py": ("test_a_disk_that_fills_up", "test_a_file_that_may_not_grow"),
    "cli/test_eval_protocols.py": ("test_a_run_is_evaluated_once", "test_an_ensemble_of_weights_runs_and_predictions"),
    "nets/test_published.py": ("test_other_libraries_count_the_same",),
    "probes/test_prune.py": ("test_latency_falls", "test_a_bound_for_the_error"),
    "bench/test_gpu_floor.py": ("test_the_page_has_these_figures",),
    "kernels/test_gpu_mode.py": ("test_a_network_learns_as_by_its_modules",),
    "kernels/test_triton_norm.py": ("test_large_ones",),
    "cli/test_serve.py": ("test_the_command_itself", "test_options_of_what_the_weights_do_not_say"),
    "cli/test_probe.py": ("test_all_figures_on_a_page", "test_figures_as_pictures", "test_pruning"),
    "detect/test_localiser.py": ("test_it_learns_what_is_where",),
    "detect/test_networks.py": (
        "test_torchvision_weights_give_torchvision_boxes",
        "test_detectors_learn_and_find",
        "test_frozen_bn_keeps_its_statistics",
    ),
    "detect/test_training.py": (
        "test_a_stopped_run_goes_on_bit_for_bit",
        "test_a_killed_run_goes_on_bit_for_bit",
        "test_the_split_val_is_watched_or_learnt_from",
        "test_a_finished_run_is_not_trained_again",
        "test_a_detector_is_read_back",
        "test_boxes_are_learnt_to_be_found",
        "test_pictures_of_all_kinds",
    ),
    "detect/test_detect_commands.py": (
        "test_interrupted_and_gone_on_with",
        "test_eval",
        "test_predict",
        "test_without_the_library_coco_is_said_to_need_it",
        "test_the_page_of_a_detector",
    ),
    "probes/test_claims.py": ("test_from_a_run_to_the_ledger",),
    "report/test_ledger.py": ("test_a_real_study_ends_up_in_the_ledger",),
    "studies/test_article.py": ("test_it_is_what_the_records_say",),
    "studies/test_queue.py": ("test_the_command_works_through_them_and_goes_on",),
    "report/test_report_confusion.py": ("test_pictures",),
    "test_tutorial.py": ("test_it_runs",),
}
"""Tests of other modules that do."""
FIRST = ("kernels/test_triton_compiles.py", "deploy/test_catalogue.py")
"""Modules that begin the session: one long test, and many, which none should wait for at its end."""


CPU = (
    "test_processor.py", "kernels/*", "data/test_jpeg.py", "evaluate/test_metrics.py", "evaluate/test_recalibrate.py",
    "evaluate/test_scores.py", "nets/test_blocks.py", "nets/test_checkpointing.py", "nets/test_families.py",
    "nets/test_whitening.py", "probes/test_lesions.py", "probes/test_seam.py", "train/test_average.py",
    "train/test_loop.py", "train/test_optim.py",
)  # fmt: skip
"""Modules whose results depend on the processor's instructions: the kernels, what is said of precision, training."""
NOT_CPU = "kernels/test_triton_*.py"
"""Of them, a GPU's kernels: machine code for a card and, by Triton's interpreter, NumPy; RESLAB_CPU holds neither."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves aside, unread, the modules of which ``-m cpu``, ``-m slow`` or ``-m "not slow"`` would take nothing."""
    if collection_path.suffix != ".py":
        return None
    name, wanted = collection_path.relative_to(Path(__file__).parent).as_posix(), config.option.markexpr
    if not collection_path.name.startswith("test_"):
        return None
    aside = {
        "cpu": not _depends_on_the_processor(name),
        "slow": name not in SLOW and name not in SLOW_TESTS and "mark.slow" not in collection_path.read_text(),
        "not slow": name in SLOW,
    }
    return True if aside.get(wanted) else None


def _depends_on_the_processor(name: str) -> bool:
    return not fnmatch(name, NOT_CPU) and any(fnmatch(name, pattern) for pattern in CPU)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of these modules."""
    here = Path(__file__).parent
    for item in items:
        name = item.path.relative_to(here).as_posix()
        if name in SLOW or getattr(item, "originalname", item.name) in SLOW_TESTS.get(name, ()):
            item.add_marker(pytest.mark.slow)
        if _depends_on_the_processor(name):
            item.add_marker(pytest.mark.cpu)
    items.sort(key=lambda item: item.path.relative_to(here).as_posix() not in FIRST)


def pytest_collection_finish() -> None:
    """What stays for the session is looked at no more by the collector of cycles."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """What is still frozen as Python ends is never freed, and Triton reports it as leaked."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _settings_of_torch() -> Iterator[None]:
    """Threads and deterministic kernels are settings of the whole process; a command that sets them must not leak."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    yield
    if torch := sys.modules.get("torch"):
        if torch.are_deterministic_algorithms_enabled():  # setting it, even to False, imports the compiler
            torch.use_deterministic_algorithms(False)
        if threads is not None:
            torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _settings_of_logging() -> Iterator[None]:
    """What is logged is a setting of the whole process, too: a library that asks for errors alone must not leak."""
    known = logging.root.manager.loggerDict
    ours = [known[name] for name in known if name.startswith("reslab")]
    loggers = [logging.root, *(log for log in ours if isinstance(log, logging.Logger))]
    before = [(log, log.level, log.propagate, log.disabled, list(log.filters)) for log in loggers]
    yield
    for log, level, propagate, disabled, filters in before:
        log.setLevel(level)
        log.propagate, log.disabled, log.filters[:] = propagate, disabled, filters


@pytest.fixture
def reslab(capsys: pytest.CaptureFixture[str]) -> Reslab:
    """Runs ``reslab WORDS``; returns exit code, stdout and stderr."""
    from reslab.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code: object = 0
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return run


# The size on the screen of each piece of text, those in drawings by their drawing's scale.
SMALL = """(least) => {
  const found = [];
  const walk = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const parent = node.parentElement, range = document.createRange();
    range.selectNodeContents(node);
    if (!node.textContent.trim() || !range.getBoundingClientRect().width) continue;
    let size = parseFloat(getComputedStyle(parent).fontSize);
    if (parent.ownerSVGElement) { const m = parent.getScreenCTM(); size *= Math.hypot(m.a, m.b); }
    if (size < least) found.push([size, node.textContent.trim().slice(0, 30)]);
  }
  return found;
}"""

# What can be used, and what of it the Tab key came to.
REACHED = "() => { document.activeElement.dataset.reached = 1; return document.activeElement === document.body; }"
MISSED = """() => [...document.querySelectorAll("a[href], button, summary, [tabindex]")]
  .filter((e) => e.getClientRects().length && !e.dataset.reached).map((e) => e.outerHTML.slice(0, 80))"""


class Usable:
    """What is wrong with a page in a browser for people who see little, use keys alone, or have a small screen."""

    least_pixels = 11
    most_steps = 300

    def __call__(self, page: Any, width: int) -> list[object]:
        """By axe's rules; by being wider than the window; by small type."""
        axe = pytest.importorskip("axe_playwright_python.sync_playwright")
        broken = axe.Axe().run(page).response["violations"]
        found: list[object] = [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in broken]
        if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{wide} pixels wide")
        return found + self.small(page)

    def small(self, page: Any) -> list[object]:
        """Pieces of small type."""
        found: list[object] = page.evaluate(SMALL, self.least_pixels - 0.05)
        return found

    def by_keys(self, page: Any) -> list[object]:
        """What can be used, and the Tab key does not come to."""
        for _ in range(2):  # round once more: the first may begin anywhere
            for _ in range(self.most_steps):
                page.keyboard.press("Tab")
                if page.evaluate(REACHED):
                    break
        found: list[object] = page.evaluate(MISSED)
        return found


@pytest.fixture(scope="session")
def usable() -> Usable:
    """Looks at pages."""
    return Usable()


@dataclass(frozen=True)
class Forge:
    """Runs ``reslab WORDS`` in a process of its own, which can be killed; returns exit code and all output.

    Keywords: ``stop`` (when, and by which signal) and ``fsize``, as `tests/forge.py` says.
    """

    run: Reslab
    ranks: Callable[..., list[tuple[int, str]]]
    """several commands at a time, as the ranks of one training: exit code and output of each"""

    def __call__(self, *words: object, **order: Any) -> tuple[int, str, str]:
        """As `run`."""
        return self.run(*words, **order)


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A process that runs commands, ready for the whole session."""
    log = tmp_path_factory.mktemp("forge") / "log"
    command = (sys.executable, str(Path(__file__).with_name("forge.py")))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        orders, answers = process.stdin, process.stdout
        assert json.loads(answers.readline()) == "ready"

        def run(*words: object, **order: Any) -> tuple[int, str, str]:
            orders.write(json.dumps({"words": [str(word) for word in words], "log": str(log), **order}) + "\n")
            orders.flush()
            code = json.loads(answers.readline())
            text = log.read_text() if log.exists() else ""
            return code, text, text

        def ranks(*commands: Sequence[object], stop: dict[str, Any] | None = None) -> list[tuple[int, str]]:
            words = [[str(word) for word in command] for command in commands]
            more = {} if stop is None else {"stop": stop}
            orders.write(json.dumps({"ranks": words, "log": str(log), **more}) + "\n")
            orders.flush()
            codes = json.loads(answers.readline())
            return [(code, Path(f"{log}.{rank}").read_text()) for rank, code in enumerate(codes)]

        yield Forge(run, ranks)
        # Not by closing the pipe: a process that a test has forked since may hold it open, too.
        orders.write("null\n")
        orders.flush()
        process.wait(60)
