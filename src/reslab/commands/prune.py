"""``reslab prune``."""

import json
import shlex
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from reslab import __version__, runs
from reslab.commands.execution import start
from reslab.commands.options.prune import Options
from reslab.commands.subject import Seen, checked, seen
from reslab.commands.targets import PAGES, check_target
from reslab.commands.weights import FILES, PICKLES, write
from reslab.data.images import ImageSet
from reslab.errors import InputError, writing
from reslab.nets.network import Network
from reslab.probes import drawing, plots
from reslab.probes.chain import Variant, evaluate_variants
from reslab.probes.prune import Curve, Images, Pruned, finetune, prune
from reslab.probes.seam import Sample
from reslab.report import sheet
from reslab.report.figure import check_format
from reslab.runs.files import write_json
from reslab.weights.load import header_of

HOW = (
    "Left: the error as blocks are removed one after another. Right: the error against the speed. The ring marks the "
    "network that was written.",
    "Training images choose which block to remove; half of the test images decide when to stop; the errors shown are "
    "measured on the other half.",
)


def run(options: Options) -> None:
    """Prunes, writes the smaller network, and reports error, multiply-adds and speed before and after."""
    checked(options.looking)
    check_target("--out", options.out, FILES, force=options.force)
    if options.out.suffix in PICKLES:
        raise InputError(f"{options.out}: a pruned network is saved with its spec; end the name in .safetensors")
    if options.report is not None:
        check_target("--report", options.report, PAGES, force=options.force)
        check_target("--report", options.report.with_suffix(".json"), force=options.force)
    for path in options.figure:
        check_format(path)
        check_target("--figure", path, force=options.force)
    if options.finetune < 0 or options.lr <= 0:
        raise InputError(
            f"--finetune takes 0 iterations or more, --lr a rate above 0, got {options.finetune} and {options.lr:g}"
        )
    if (options.drop is None) == (options.max_error is None):
        raise InputError(
            "give either --drop (a number of blocks) or --max-error (percentage points that the error may rise)"
        )
    if options.drop == 0 and not options.finetune:
        raise InputError("--drop 0 removes nothing; give it with --finetune, or a number of 1 or more")
    if options.rounds < 1:
        raise InputError(f"--rounds takes 1 or more rounds of timing, got {options.rounds}")
    execution = start(options.device, options.threads)
    found = seen(options.weights, options.looking, execution)
    found.weights.check_head("pruning, which goes by the error,")
    train = found.sample(options.looking, execution.device, split="train", count=options.looking.images)
    test = found.sample(options.looking, execution.device, split="test", count=None)
    images = Images.of(train, test, calibrate=options.calibrate)
    console = Console(stderr=True, quiet=options.json)
    console.print(
        f"{found.weights.spec.name}: {len(train):,} training images choose, {len(images.deciding):,} test images "
        f"decide, {len(images.reporting):,} others report",
        highlight=False, markup=False, soft_wrap=True,
    )  # fmt: skip

    def tell(text: str) -> None:
        console.print(f"  {text}", highlight=False, markup=False)

    pruned = prune(
        found.net, images, drop=options.drop, max_error=options.max_error, rounds=options.rounds, tell=tell
    )  # fmt: skip
    tuned = _finetuned(pruned, found, images, options, execution.device) if options.finetune else None
    record = _record(pruned, found, images, tuned, options)
    header = header_of(pruned.net.spec, found.preprocessing, found.weights.classes)
    about = {"pruned_from": found.weights.spec.name, "removed": list(pruned.removed)}
    write(options.out, dict(pruned.net.state_dict()), header | about)
    if options.report is not None:
        _page(options.report, pruned, found, record)
    for path in options.figure:
        with writing(f"--figure {path}"):
            drawing.save(plots.pruning, [(found.weights.spec.name, pruned.curve)], path)
    if options.json:
        print(json.dumps(record, indent=2))
    else:
        _print(pruned.curve, tuned)
        print(
            f"{options.out}: {pruned.net.spec.name} ({', '.join(pruned.removed) or 'nothing removed'}), "
            f"{pruned.curve.speedup[pruned.curve.chosen]:.2f} times as fast"
        )


def _finetuned(pruned: Pruned, found: Seen, images: Images, options: Options, device: torch.device) -> float:
    """Trains the pruned network on, and returns its error on the reporting images."""
    train = found.data.train
    mapped = ImageSet(train.images, found.numbers[train.labels])
    finetune(
        pruned.net, mapped, found.data.info.spec(), found.normalizer,
        iterations=options.finetune, lr=options.lr, seed=options.seed, precision=options.looking.precision,
    )  # fmt: skip
    return error_of(pruned.net, images.reporting)


def error_of(net: Network, sample: Sample) -> float:
    """Top-1 error in per cent."""
    whole: Variant = tuple((i, "whole") for i in range(len(net.blocks)))
    return float(evaluate_variants(net, sample, [whole]).error[0])


def _record(pruned: Pruned, found: Seen, images: Images, tuned: float | None, options: Options) -> dict[str, Any]:
    curve, at = pruned.curve, pruned.curve.chosen
    return {
        "command": command_of(options),
        "weights": found.weights.origin,
        "net": found.weights.spec.name,
        "out": str(options.out),
        "removed": list(pruned.removed),
        "before": {"error": float(curve.error[0]), "macs": int(curve.macs[0]), "params": int(curve.params[0])},
        "after": {"error": float(curve.error[at]), "macs": int(curve.macs[at]), "params": int(curve.params[at])},
        "finetuned": None if tuned is None else {"iterations": options.finetune, "lr": options.lr, "error": tuned},
        "speedup": round(float(curve.speedup[at]), 4),
        "batch": min(options.looking.batch, len(images.reporting)),
        "images": {
            "choosing": len(images.choosing), "deciding": len(images.deciding), "reporting": len(images.reporting),
        },
        "bound": {"drop": options.drop, "max_error": options.max_error},
        "curve": curve.to_dict(),
        "machine": runs.describe(),
        "time": runs.now(),
    }  # fmt: skip


def _print(curve: Curve, tuned: float | None) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("blocks removed", "last", "error", "error, deciding images", "MMACs", "ms", "speed-up"):
        table.add_column(heading, justify="left" if heading == "last" else "right")
    for i, (gone, name) in enumerate(zip(curve.removed, curve.block, strict=True)):
        errors = (f"{curve.error[i]:.2f} %", f"{curve.deciding_error[i]:.2f} %")
        speed = (f"{1e3 * curve.seconds[i]:.1f}", f"{curve.speedup[i]:.2f}")
        style = "bold" if i == curve.chosen else None
        table.add_row(str(gone), name, *errors, f"{curve.macs[i] / 1e6:.1f}", *speed, style=style)
    Console().print(table)
    if tuned is not None:
        print(f"after fine-tuning: {tuned:.2f} %")


def _page(path: Path, pruned: Pruned, found: Seen, record: dict[str, Any]) -> None:
    """The curve as a page, with its figures as JSON beside it."""
    name = found.weights.spec.name
    curve = pruned.curve
    said = (
        f"{len(pruned.removed)} blocks removed: error {curve.error[0]:.2f} % to {curve.error[curve.chosen]:.2f} %, "
        f"{curve.speedup[curve.chosen]:.2f} times as fast"
    )
    if record["finetuned"] is not None:
        said += f"; {record['finetuned']['error']:.2f} % after {record['finetuned']['iterations']:,} iterations"
    panel = sheet.Panel(
        "curve", "Error and speed", drawing.svg(plots.pruning, [(name, curve)], salt="curve"), HOW, ((name, said),),
        "Without a single residual block the error hardly changes (Fig. 3), and without several it rises smoothly "
        "(Fig. 5 (a)). Pruning by it is not in the paper.",
        "Veit, Wilber, Belongie 2016, arXiv 1605.06431", {name: curve.rows()},
    )  # fmt: skip
    machine = {key: value for key, value in record["machine"].items() if key != "git_commit"}
    facts = {"Images": record["images"], "Machine": machine}
    page = sheet.Sheet(
        f"{name}, pruned", f"Which blocks can go, and what is gained: {said}.", (panel,), (), facts, record["command"],
        __version__,
    )  # fmt: skip
    with writing(f"--report {path}"):
        sheet.write(page, path)
        write_json(path.with_suffix(".json"), record)


def command_of(options: Options) -> str:
    """The command line that does the same."""
    looking = options.looking
    words = ["reslab", "prune", options.weights, "--data", looking.data, "--out", str(options.out)]
    for name, value, usual in (
        ("drop", options.drop, None), ("max-error", options.max_error, None), ("finetune", options.finetune, 0),
        ("lr", options.lr, 0.01), ("images", looking.images, 2000), ("rounds", options.rounds, 5),
        ("seed", options.seed, 0), ("device", options.device, None), ("threads", options.threads, None),
        ("report", options.report, None),
    ):  # fmt: skip
        words += [] if value == usual else [f"--{name}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join([*words, *looking.words(), *([] if options.calibrate else ["--no-calibrate"])])
