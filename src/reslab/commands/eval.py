"""``reslab eval``: weights and saved predictions, each by a protocol, alone or together."""

import json
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from reslab.commands import eval_print as shown
from reslab.commands.artefacts import check_weights
from reslab.commands.eval_artefact import artefact_member
from reslab.commands.eval_data import Where, listed_alone, to_recalibrate_on, unseen_of
from reslab.commands.eval_members import Member, ensemble
from reslab.commands.execution import start
from reslab.commands.options.evaluate import Options
from reslab.commands.preprocessing import preprocessing_of
from reslab.commands.targets import check_target
from reslab.deploy.artefact import is_artefact
from reslab.errors import InputError, writing
from reslab.evaluate.predict import Answer, Question, answer, ask
from reslab.evaluate.predictions import SUFFIX, About, Predictions, save
from reslab.evaluate.predictions import load as load_predictions
from reslab.evaluate.protocols import OneCrop, suited
from reslab.evaluate.scores import trained_window
from reslab.runs import RunDir
from reslab.train.device import Execution, keep_freed_memory, resolve_precision, use_exact_fp32
from reslab.weights.load import load

RECALIBRATED = 10_000
"""Training images that BN's statistics are computed over, where nobody says."""


def run(options: Options) -> None:
    """Evaluates each of the weights, or all of them together, and prints the errors."""
    _check(options)
    execution = start(options.device, options.threads)
    use_exact_fp32(execution.device)
    if execution.device.type == "cpu":
        keep_freed_memory()  # as in training (results/kept_memory.json); most for images of many sizes
    console = Console(stderr=True, quiet=options.json)
    members = [_member(source, options, execution, console) for source in options.weights]
    records = [member.record() for member in members]
    last = members[-1].answer.predictions
    if options.protocol == "ensemble":
        last, together = ensemble(members, records, best_subset=options.best_subset)
        records = [together]
    if options.save is not None:
        _save(last, options.save, console)
    if options.confusion is not None:
        shown.save_confusion(last, options.confusion)
        console.print(f"confusion matrix: {options.confusion}", markup=False, highlight=False, soft_wrap=True)
    if options.per_class:
        records[-1]["per_class"] = shown.classes(last)
    if options.json:
        print(json.dumps(records if len(records) > 1 else records[0], indent=2))
    else:
        shown.show(records)


def _check(options: Options) -> None:
    """What is wrong whatever the weights are."""
    given = options.given
    numbers = (
        ("batch-size", options.batch), ("resize", given.resize), ("crop", given.crop), ("window", options.window),
    )  # fmt: skip
    for name, number in numbers:
        if number is not None and number < 1:
            raise InputError(f"--{name} takes 1 or more, got {number}")
    together = options.protocol == "ensemble"
    if not together and options.each is not None:
        raise InputError(
            "--each sets the protocol of an ensemble's members; add --protocol ensemble, or give "
            f"--protocol {options.each} alone"
        )
    if not together and options.best_subset:
        raise InputError("--best-subset compares the members of an ensemble; add --protocol ensemble")
    if together and len(options.weights) < 2:
        raise InputError("--protocol ensemble takes two members or more: weights, runs, or saved predictions")
    if options.recalibrate_images is not None and not options.recalibrate_bn:
        raise InputError("--recalibrate-images says how many images --recalibrate-bn takes; add --recalibrate-bn")
    if options.window is not None and options.kind != "multi-scale":
        raise InputError(f"--window goes with --protocol multi-scale, not with {options.kind}; leave it out")
    for name, value in (("save", options.save), ("confusion", options.confusion), ("per-class", options.per_class)):
        if value and not together and len(options.weights) > 1:
            raise InputError(
                f"--{name} takes one evaluation, got {len(options.weights)} weights; give one, or add "
                "--protocol ensemble"
            )
    if options.confusion is not None:
        shown.check_format(options.confusion)
    check_target("--confusion", options.confusion, force=options.force)
    check_target("--save", options.save, (SUFFIX,), force=options.force)


def _save(predictions: Predictions, path: Path, console: Console) -> None:
    with writing(f"--save {path}"):
        save(predictions, path)
    console.print(f"predictions: {path}", markup=False, highlight=False, soft_wrap=True)


def _member(source: str, options: Options, execution: Execution, console: Console) -> Member:
    """One of the weights evaluated, or looked up where that was done before; or a file of predictions."""
    if source.endswith(SUFFIX):
        return _read(source, options, console)
    if options.data is None:
        raise InputError(f"name the images to evaluate {source} on by --data: a known name or a path")
    where = Where.given(options.data, options.split, options.labels, options.outputs, options.damaged)
    if is_artefact(source):
        return artefact_member(source, where, options, console, _say)
    check_weights(options.runtime)
    weights = load(source, net=options.net, which=options.which)
    weights.check_classifier("an evaluation")
    preprocessing = preprocessing_of(options.given, weights)
    if options.oriented is not None:
        preprocessing = preprocessing.model_copy(update={"oriented": options.oriented})
    window, notes = (7, 7), weights.said
    if options.kind == "multi-scale":
        window = trained_window(weights.spec, preprocessing.crop)
        if preprocessing.mean_size:
            notes = (*notes, "the mean image has a fixed size: its average per channel is subtracted instead")
            preprocessing = preprocessing.of_any_size()
    if options.window is not None:
        window = (options.window, options.window)
    protocol = suited(
        options.kind, preprocessing, test_time=options.test_time, scales=options.scales, window=window
    )  # fmt: skip
    images, seen = unseen_of(source, where, weights, preprocessing, one_crop=isinstance(protocol, OneCrop))
    if images.channels != weights.spec.in_channels:
        raise InputError(
            f"the network takes images of {weights.spec.in_channels} channels, the data has {images.channels}"
        )
    training = None
    if options.recalibrate_bn:
        count = RECALIBRATED if options.recalibrate_images is None else options.recalibrate_images
        training = to_recalibrate_on(where, weights, preprocessing, count, options.batch)
    question = ask(
        weights, images, protocol, preprocessing, precision=resolve_precision(options.precision, execution.device),
        names=where.outputs, training=training, notes=(*notes, *seen),
    )  # fmt: skip
    _say(question, console)
    run = RunDir(Path(source)) if Path(source).is_dir() and RunDir(Path(source)).exists else None
    found = answer(
        question, run, lambda new: Member(source, new).record(), device=execution.device, fused=execution.fuses,
        batch=options.batch, fresh=options.fresh,
    )  # fmt: skip
    if found.again:
        console.print(
            f"[bold]{'kept':>8}[/]  {escape(str(found.place))}: saved before, not computed again (--fresh recomputes)",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    return Member(source, found)


def _read(source: str, options: Options, console: Console) -> Member:
    """A file of predictions, which have to be what the options ask for."""
    path = Path(source).expanduser()
    found = load_predictions(path)
    about = found.about
    if options.protocol not in (None, "ensemble") and about.protocol.name != options.protocol:
        raise InputError(
            f"{source} holds predictions by {about.protocol.name}, not {options.protocol}; give the weights instead"
        )
    if options.data is not None:
        where = Where.given(options.data, options.split, options.labels, options.outputs, options.damaged)
        _check_same(source, about, where)
    console.print(
        f"[bold]{'scores':>8}[/]  {escape(source)}: {escape(about.weights)} on {escape(about.data)}, split "
        f"'{about.split}', {escape(about.protocol.words())}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return Member(source, Answer(found, path, again=True))


def _check_same(source: str, about: About, where: Where) -> None:
    """Raises `InputError` unless predictions are of the images that ``--data`` names."""
    names = tuple(name or "" for name in about.outputs)
    if (own := listed_alone(where, names).fingerprint()) != about.data_fingerprint:
        raise InputError(
            f"{source} holds predictions for other images ({about.data}, {about.split}: {about.data_fingerprint}) "
            f"than --data {where.data} --split {where.split} ({own}); leave out --data, or evaluate the weights on it"
        )


def _say(question: Question, console: Console) -> None:
    """What is evaluated on what, before it takes its time."""
    about, weights, listed = question.about, question.weights, question.images.listed
    said = {
        "weights": f"{about.weights} ({weights.dialect} names)",
        "network": f"{about.net}, {weights.spec.num_classes} classes",
        "images": f"{len(listed.labels):,} of {listed.name}, split '{about.split}': {listed.source}",
        "outputs": about.outputs_said,
        "protocol": f"{about.protocol.called}: {about.protocol.words()}",
        "input": about.input,
    }
    if about.recalibrated:
        said["BN"] = f"statistics averaged over {about.recalibrated}"
    for name, text in (said | {f"note {i}": text for i, text in enumerate(about.notes, 1)}).items():
        console.print(f"[bold]{name:>8}[/]  {escape(text)}", highlight=False, soft_wrap=True)
