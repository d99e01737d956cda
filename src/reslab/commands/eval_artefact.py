"""An artefact as a member of an evaluation."""

from collections.abc import Callable

from rich.console import Console

from reslab.commands.artefacts import check_options, open_artefact
from reslab.commands.eval_data import Where, images_of
from reslab.commands.eval_members import Member
from reslab.commands.options.evaluate import Options
from reslab.deploy.artefact import read
from reslab.deploy.evaluate import behind, predictions
from reslab.deploy.runtimes import READS
from reslab.errors import InputError
from reslab.evaluate.predict import Answer, Question, ask
from reslab.evaluate.protocols import suited


def artefact_member(
    source: str, where: Where, options: Options, console: Console, said: Callable[[Question, Console], None]
) -> Member:
    """An artefact evaluated by one crop, which is what it makes of an image; ``said`` tells people what comes."""
    check_options(
        source, options.given, options.device,
        {"net": options.net, "which": options.which, "recalibrate-bn": options.recalibrate_bn},
    )  # fmt: skip
    if options.kind != "one-crop" or options.test_time != "none":
        raise InputError(f"{source} is an artefact, which crops images itself: evaluate it by --protocol one-crop")
    found = open_artefact(
        read(source), options.runtime, options.precision, threads=options.threads, batch=options.batch, console=console
    )  # fmt: skip
    artefact, runtime = found.artefact, found.runtime
    weights = behind(artefact, artefact.about.models[READS[runtime.name]])
    how = found.about(options.oriented).preprocessing
    images = images_of(where, weights, how, one_crop=False)
    if images.channels != artefact.about.channels:
        raise InputError(
            f"the artefact takes images of {artefact.about.channels} channels, the data has {images.channels}"
        )
    note = f"computed by {runtime.name} in {runtime.precision}, from {artefact.about.input}"
    question = ask(
        weights, images, suited("one-crop", how), how, precision=runtime.precision, names=where.outputs, notes=(note,)
    )  # fmt: skip
    said(question, console)
    return Member(source, Answer(predictions(question, artefact, runtime, batch=options.batch), None, again=False))
