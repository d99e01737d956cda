"""The command ``reslab``: names of commands to functions. Heavy imports happen inside the command."""

import logging
import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from reslab import __version__
from reslab.errors import InputError

app = App(
    name="reslab",
    help="Residual networks of the papers: train them, prove their claims, take them apart, ship them.",
    version=__version__,
    default_parameter=Parameter(negative=(), show_env_var=False),
    suppress_keyboard_interrupt=False,  # `main` says how to go on
)

Words = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True)]
Numbers = Annotated[tuple[float, ...], Parameter(consume_multiple=True)]
Net = Annotated[str | None, Parameter(name=["--net", "--model"])]
Batch = Annotated[int | None, Parameter(name=["--batch-size", "-b"])]


@app.command
def demo(*, out: Path = Path("runs/demo"), open: bool = False) -> None:
    """See the degradation problem and its cure on scanned digits, in about two minutes.

    Trains plain and residual networks of 20 and 56 layers side by side, and says what came of it.

    Args:
        out: Folder of the runs and the report.
        open: Open the report in the browser.
    """
    from reslab.commands.study import demo as run

    _show(run(out), open)


@app.command
def train(
    recipe: str | None = None,
    /,
    *,
    net: Net = None,
    data: str | None = None,
    out: Path | None = None,
    iterations: int | None = None,
    epochs: float | None = None,
    batch_size: Batch = None,
    seed: int | None = None,
    holdout: int | None = None,
    lr: float | None = None,
    wd: float | None = None,
    settings: Words = (),
    precision: Literal["auto", "bf16", "fp32"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    weights: str | None = None,
    num_classes: int | None = None,
    resume: Path | None = None,
    checkpoint_every: int | None = None,
    deterministic: bool | None = None,
    checkpoint_activations: bool | None = None,
    memory_budget: str | None = None,
    accumulate: int | None = None,
    sync_bn: bool | None = None,
    fused: Annotated[bool | None, Parameter(negative="--no-fused")] = None,
    compile: Annotated[bool | None, Parameter(negative="--no-compile")] = None,
    workers: Annotated[int | None, Parameter(name=["--workers", "-j"])] = None,
    size: int | None = None,
    labels: Path | None = None,
    damaged: float | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Train a network by a paper's recipe.

    The paper's ResNet-20 on CIFAR-10: `reslab train he2015_cifar --net resnet20 --data cifar10 --out runs/resnet20`

    Stopped, or killed? `reslab train --resume runs/resnet20` ends where it would have ended. Ctrl-C, and SIGTERM as
    schedulers send it, let the iteration end and leave a checkpoint.

    How long would it take? `reslab train he2015_imagenet --data imagenet --dry-run` measures a few steps.

    Several GPUs or machines: `torchrun --nproc-per-node 8 -m reslab train ...` trains the same.

    Args:
        recipe: he2015_cifar (the paper's), fast_he2015_cifar, fast_cifar or fast_cifar94 (minutes on a CPU); for
            photographs he2015_imagenet, gross2016_imagenet or modern_imagenet.
        net: resnet20, plain56, "cifar_resnet(depth=38, shortcut='B')"; `reslab nets` lists them.
        data: digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder. For photographs: a
            folder with train/ and val/, shards (tar, Parquet), or ImageNet's own archives.
        out: The run's folder; by default runs/RECIPE-NET-DATA-seedS.
        iterations: Mini-batches to train for; by default the recipe's. The drops of the rate move in proportion.
        epochs: The same, in passes over the training set.
        batch_size: Images of one step, over all devices.
        seed: Of the initial weights, the order and the augmentation; by default 0.
        holdout: Training images set aside to select on; the test set is then read once, at the end.
        lr: Short for --set optimizer.lr=...
        wd: Short for --set optimizer.weight_decay=...
        settings: Change fields of the recipe: --set optimizer.nesterov=true data.augment.flip=false
        precision: bf16 needs hardware for it; by default it is used where there is some.
        device: cpu, cuda, cuda:1, ...; by default CUDA where there is one.
        threads: CPU threads; by default all cores, shared out where several processes train.
        weights: Start from these: a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG,
            hf:ORG/NAME.
        num_classes: Classes of the network; weights of another number get a new head.
        resume: Go on with the run in this folder, by its own recipe, and on its device and threads.
        checkpoint_every: Iterations between checkpoints; by default at evaluations and every two minutes.
        deterministic: On CUDA, kernels that repeat bit for bit.
        checkpoint_activations: Keep few activations and compute the others again: much less memory for very deep
            networks, about a third more time, the same result within rounding.
        memory_budget: Bytes that a step may take (4GB, 500MB): as few activations as needed are computed twice.
            Reckoned for CPUs; on GPUs a guide.
        accumulate: Parts that a batch is worked through in, to save memory; the recipe's batch stays what it is.
        sync_bn: Of several ranks, take BN's statistics over the images of all where the recipe's group is larger than
            a rank's share of the batch.
        fused: On the CPU, BN, addition and ReLU as one kernel; by default where a compiler is there.
        compile: Forward and backward by torch.compile, in place of kernels of our own: a minute or more first.
        workers: Processes that decode photographs beside the training; by default all cores but one.
        size: Pixels of an image's side: of the crops of photographs (by default 224), or what a folder of small images
            is resized to.
        labels: File and class of each validation photograph, a line each, where they lie flat; by default val.txt and
            the like beside them.
        damaged: Share of the photographs that may be damaged before a run ends; by default 0.01. They are left out,
            counted and named; 0 allows none, any other share one at least.
        dry_run: Check everything, measure a few steps, say what the training would take, and write nothing.
        json: Print the result as JSON.
    """
    from reslab.commands.names import check

    if resume is None and not _rank():  # of several ranks none ends before it has told the others
        check(recipe=recipe, net=net, data=data, weights=[weights] if weights else [])
    from reslab.commands.train import Options, run

    settings = (
        *settings,
        *([f"optimizer.lr={lr!r}"] if lr is not None else []),
        *([f"optimizer.weight_decay={wd!r}"] if wd is not None else []),
        *([f"precision={precision}"] if precision is not None else []),
    )
    run(
        Options(
            recipe=recipe, net=net, data=data, out=out, iterations=iterations, epochs=epochs, batch=batch_size,
            seed=seed, holdout=holdout, settings=settings, device=device, threads=threads, weights=weights,
            num_classes=num_classes, resume=resume, checkpoint_every=checkpoint_every, deterministic=deterministic,
            checkpoint_activations=checkpoint_activations, memory_budget=memory_budget, accumulate=accumulate,
            sync_bn=sync_bn, fused=fused, compile=compile, workers=workers, size=size, labels=labels,
            damaged=damaged, dry_run=dry_run, json=json,
        )
    )  # fmt: skip


@app.command
def study(
    name: str | None = None,
    /,
    *,
    data: str = "digits",
    depths: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (),
    seeds: int | None = None,
    iterations: int | None = None,
    budget: float | None = None,
    batch_size: Batch = None,
    settings: Words = (),
    dry_run: bool = False,
    out: Path | None = None,
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1,
    on: str | None = None,
    store: str | None = None,
    cpus: int = 1,
    device: str | None = None,
    figure: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    open: bool = False,
    json: bool = False,
) -> None:
    """Test a claim of the papers: run, judge by a rule fixed beforehand, report.

    How much can an hour decide? `reslab study shortcuts --data cifar10 --budget 60` chooses depth, length and seeds.

    Stopped, or killed? The same command goes on where it was; finished runs are not run again, nor are those that a
    study beside this one has made.

    Args:
        name: The study; without it, all are listed.
        data: digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder.
        depths: Depths of the networks; of several, the least and the greatest are judged.
        seeds: How many paired seeds; by default 3.
        iterations: Mini-batches per run; by default the paper's 64,000, and 500 on digits.
        budget: Minutes for everything; what is not given is chosen by it, after measuring what a step takes here.
        batch_size: Images of one step; by default the paper's 128, and 64 on digits.
        settings: Change fields of the recipe: --set optimizer.lr=0.05
        dry_run: Say what would be run, with --budget what it would take, and write nothing.
        out: Folder of the runs and the report; by default runs/STUDY-DATA.
        jobs: Runs at a time; they share the CPU's threads.
        on: ray, or ray://HOST:PORT: runs are handed to a Ray cluster; lost ones go on from their checkpoints.
        store: With --on: an address that all machines share (s3://...), if OUT is no shared folder.
        cpus: With --on: CPUs that a run takes.
        device: cpu, cuda, cuda:1, ...; by default CUDA where there is one.
        figure: Also write the figure to these files: .pdf, .svg or .png.
        open: Open the report in the browser.
        json: Print the summary as JSON.
    """
    if name is None:
        from reslab.commands.studies import listing

        listing(as_json=json)
        return
    from reslab.commands.names import check

    check(study=name, data=data)
    from reslab.commands.study import Options, run

    report = run(
        Options(
            name=name, data=data, depths=depths, seeds=seeds, iterations=iterations, batch=batch_size,
            settings=settings, budget=budget, dry_run=dry_run, out=out, jobs=jobs, on=on, store=store, cpus=cpus,
            device=device, figure=figure, json=json,
        )
    )  # fmt: skip
    if report is not None:
        _show(report, open)


@app.command
def claims(*results: Path, html: Path | None = None, open: bool = False, json: bool = False) -> None:
    """List the claims of the papers, and whether each held here.

    Built from the results of studies at hand; nothing is run.

    Args:
        results: Folders of results; by default results/ and runs/ here.
        html: Write the ledger to this file, as a page.
        open: Open the page in the browser.
        json: Print JSON.
    """
    from reslab.commands.claims import run

    run(results, html=html, as_json=json)
    if html is not None:
        _show(html, open)


@app.command
def report(
    *runs: Path,
    out: Path | None = None,
    figure: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    open: bool = False,
    json: bool = False,
) -> None:
    """Compare any runs, or show a study once more.

    `reslab report runs/resnet20-seed* runs/plain20-seed* --out runs/compared`

    Args:
        runs: Folders of finished runs; runs of one recipe are its seeds. Or the folder of one study.
        out: Folder for the page, the tables and the figure.
        figure: Also write the figure to these files: .pdf, .svg or .png.
        open: Open the page in the browser.
        json: Print the summary as JSON.
    """
    from reslab.commands.report import run

    page = run(runs, out=out, figures=figure, as_json=json)
    if page is not None:
        _show(page, open)


@app.command(name="eval")
def evaluate(
    weights: tuple[str, ...],
    /,
    *,
    data: str | None = None,
    protocol: Literal["one-crop", "ten-crop", "multi-scale", "ensemble"] | None = None,
    each: Literal["one-crop", "ten-crop", "multi-scale"] | None = None,
    best_subset: bool = False,
    net: Net = None,
    split: Literal["test", "train", "all"] = "test",
    mean: Numbers = (),
    std: Numbers = (),
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Literal["bilinear", "bicubic"] | None = None,
    test_time: Literal["none", "flip", "flip-shift"] = "none",
    scales: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (),
    window: int | None = None,
    labels: Path | None = None,
    outputs: Path | None = None,
    damaged: float | None = None,
    recalibrate_bn: bool = False,
    recalibrate_images: int | None = None,
    per_class: bool = False,
    confusion: Path | None = None,
    save: Path | None = None,
    fresh: bool = False,
    batch_size: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 100,
    precision: Literal["auto", "bf16", "fp32"] = "fp32",
    device: str | None = None,
    threads: int | None = None,
    json: bool = False,
) -> None:
    """Measure the error of weights by the papers' protocols, alone or as an ensemble.

    The CIFAR test of a run: `reslab eval runs/resnet20 --data cifar10`

    Ten crops of photographs: `reslab eval torchvision:resnet50 --data imagenet --protocol ten-crop`

    Six networks together: `reslab eval runs/* --data imagenet --protocol ensemble --each multi-scale --best-subset`

    What is evaluated of a run is kept in its folder, and computed once.

    Args:
        weights: One or more: a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG,
            hf:ORG/NAME, or predictions that --save wrote (.npz).
        data: digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder: train/ and val/ with a
            folder for each class, ImageNet's archives, or flat with a list of labels. Of saved predictions it need
            not be said.
        protocol: one-crop (the default): the centre, or the whole of a small image. ten-crop: corners, centre and
            their mirror images. multi-scale: the whole image at five sizes, the head at each position. ensemble: of all
            the weights. Softmax scores are averaged.
        each: The protocol of an ensemble's members; by default one-crop.
        best_subset: Say which members are best together, for each number of them.
        net: The network, where names and shapes of the weights cannot tell.
        split: Which images; of a folder without test/ or val/, test is a fifth held out, and all is all.
        mean: Of the pixels (0 to 1) that the network was trained on, for each channel, if the weights do not say.
        std: Their standard deviation.
        resize: Pixels of the shorter side before the crop.
        crop: Pixels of the centre crop, or of each of ten.
        interpolation: Of the resizing.
        test_time: Of one crop. flip: logits are averaged with the mirror image's. flip-shift: with those of shifted
            images too.
        scales: Of multi-scale, the shorter sides; by default 224 256 384 480 640, in proportion to the crop.
        window: Of multi-scale, positions of the feature map that are pooled at a time; by default as in training, 1 is
            the head at each position.
        labels: File and class of each image, a line each, where they lie flat; by default val.txt and the like.
        outputs: Text file with the name of each output's class, a line each, if the weights do not say.
        damaged: Share of the images that may be damaged: they are left out, counted and named. By default none.
        recalibrate_bn: Compute BN's statistics anew, as averages over training images.
        recalibrate_images: Over how many; by default 10,000.
        per_class: Print the accuracy of each class, the worst first.
        confusion: Write the confusion matrix to this file: .png, .svg, .pdf or .csv.
        save: Write the predictions to this .npz file, for an ensemble or other figures.
        fresh: Compute again what is kept.
        batch_size: Images at a time.
        precision: bf16 is faster where the hardware has it.
        device: cpu, cuda, cuda:1, ...; by default CUDA where there is one.
        threads: CPU threads; by default all cores.
        json: Print JSON: an object, or a list for several weights.
    """
    from reslab.commands.names import check

    check(net=net, data=data, weights=weights)
    from reslab.commands.eval import Options, run
    from reslab.commands.preprocessing import Given

    run(
        Options(
            weights=weights, data=data, net=net, split=split, protocol=protocol, each=each, scales=scales,
            window=window, test_time=test_time,
            given=Given(mean=mean, std=std, resize=resize, crop=crop, interpolation=interpolation),
            labels=labels, outputs=outputs, damaged=damaged, recalibrate_bn=recalibrate_bn,
            recalibrate_images=recalibrate_images, best_subset=best_subset, per_class=per_class, confusion=confusion,
            save=save, fresh=fresh, batch=batch_size, precision=precision, device=device, threads=threads, json=json,
        )
    )  # fmt: skip


weights_app = App(name="weights", help="List, inspect, convert and fetch weights of any residual network.")
app.command(weights_app)


@weights_app.command(name="list")
def list_(*, json: bool = False) -> None:
    """List the weights that come with Reslab.

    Args:
        json: Print JSON.
    """
    from reslab.commands.weights import listing

    listing(as_json=json)


@weights_app.command
def inspect(weights: str, /, *, net: Net = None, json: bool = False) -> None:
    """Say which network weights are of, what travels with them and what had to be assumed.

    Args:
        weights: A file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME.
        net: The network, where names and shapes cannot tell.
        json: Print JSON, the whole specification included.
    """
    from reslab.commands.names import check

    check(net=net, weights=[weights])
    from reslab.commands.weights import inspect as run

    run(weights, net=net, as_json=json)


@weights_app.command
def convert(
    weights: str,
    out: Path,
    /,
    *,
    to: Literal["reslab", "torchvision", "timm"] = "reslab",
    net: Net = None,
    num_classes: int | None = None,
    force: bool = False,
) -> None:
    """Write weights under the names of Reslab (with all that is known of them), torchvision or timm.

    Args:
        weights: A file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME.
        out: The file to write: .safetensors, or .pth for torch.load.
        to: Whose names; the result loads there with strict=True.
        net: The network, where names and shapes cannot tell.
        num_classes: Replace the head by a new one of so many classes.
        force: Overwrite the file.
    """
    from reslab.commands.names import check

    check(net=net, weights=[weights])
    from reslab.commands.weights import convert as run

    run(weights, out, to=to, net=net, num_classes=num_classes, force=force)


@weights_app.command
def fetch(weights: str, /, *, out: Path | None = None, force: bool = False) -> None:
    """Fetch weights from a hub into its library's cache.

    Args:
        weights: torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME.
        out: Also keep them as this file, with network and preprocessing inside.
        force: Overwrite the file.
    """
    from reslab.commands.weights import fetch as run

    run(weights, out, force=force)


@app.command
def deepen(weights: str, /, *, to: str, out: Path, net: Net = None, force: bool = False) -> None:
    """Make a deeper network that computes exactly the same: the paper's solution by construction.

    Plain networks of the same training are worse when deeper, although this solution exists: that is the degradation
    problem. Train on from it by `reslab train ... --weights OUT`.

    Args:
        weights: A file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME.
        to: The deeper network: resnet56, "cifar_plain(depth=38)".
        out: The file to write: .safetensors, or .pth.
        net: The network of the weights, where names and shapes cannot tell.
        force: Overwrite the file.
    """
    from reslab.commands.names import check

    check(net=net, weights=[weights])
    from reslab.commands.deepen import run

    run(weights, to=to, out=out, net=net, force=force)


@app.command
def bench(
    what: Literal["train", "infer", "data"],
    /,
    *,
    net: Annotated[str, Parameter(name=["--net", "--model"])] = "resnet20",
    against: Literal["eager", "torchvision", "timm"] | None = None,
    batch_size: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 128,
    size: int | None = None,
    rounds: int = 10,
    turn: float = 1.0,
    workers: Annotated[int | None, Parameter(name=["--workers", "-j"])] = None,
    precision: Literal["auto", "bf16", "fp32"] = "auto",
    device: str | None = None,
    threads: int | None = None,
    compile: bool = False,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Measure how fast this machine trains, evaluates or feeds a network, and against what others use.

    `reslab bench train --net resnet50 -b 32 --against torchvision`

    Both run by turns, each in a process of its own, so that a machine whose speed drifts slows both; the ratio is the
    median.

    Args:
        what: train: whole steps, batches made anew. infer: forward passes. data: batches alone.
        net: Any network of `reslab nets`, timm:NAME, torchvision:NAME.
        against: eager: the same network in fp32, channels-first, as scripts have it. torchvision, timm: theirs, so.
        batch_size: Images of a step.
        size: Pixels of an image's side; by default the network's own.
        rounds: Turns that each gets.
        turn: Seconds of a turn.
        workers: Loader processes of the peer's data; by default one a core.
        precision: Ours; bf16 where the hardware has it. The peer's is fp32, its default.
        device: cpu, cuda, cuda:1, ...; by default CUDA where there is one.
        threads: CPU threads; by default all cores.
        compile: Ours by torch.compile; compiling itself is not timed.
        out: Also write the figures to this JSON file.
        json: Print JSON.
    """
    from reslab.commands.names import check

    check(net=net)
    from reslab.commands.bench import Options, run

    run(
        Options(
            what=what, net=net, against=against, batch=batch_size, size=size, rounds=rounds, turn=turn,
            workers=workers, precision=precision, device=device, threads=threads, compile=compile, out=out,
            json=json,
        )
    )  # fmt: skip


@app.command
def probe(
    *weights: str,
    data: str,
    all: bool = False,
    responses: bool = False,
    shares: bool = False,
    lesions: bool = False,
    paths: bool = False,
    gradients: bool = False,
    downsampling: bool = False,
    perturbations: bool = False,
    gates: bool = False,
    attribution: bool = False,
    shattering: bool = False,
    identity: bool = False,
    out: Path | None = None,
    figures: Path | None = None,
    format: Literal["png", "svg", "pdf"] = "png",
    images: int = 2000,
    split: Literal["test", "train", "all"] = "test",
    net: Net = None,
    outputs: Path | None = None,
    mean: Numbers = (),
    std: Numbers = (),
    batch_size: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 100,
    precision: Literal["bf16", "fp32"] = "fp32",
    device: str | None = None,
    threads: int | None = None,
    open: bool = False,
    json: bool = False,
) -> None:
    """Look inside a network, or compare several: what its blocks do, and what happens without them.

    `reslab probe runs/resnet20 runs/plain20 --data cifar10 --all --out xray.html`

    Stopped, or killed? The same command goes on where it was; figures that are there are not measured again.

    Args:
        weights: Of 1 to 4 networks, each a file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT,
            timm:NAME.TAG or hf:ORG/NAME.
        data: digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder.
        all: All figures that the networks have.
        responses: How strong the layers' responses are, and what the shortcuts carry.
        shares: How much each block adds to its shortcut.
        lesions: The error without one block, without many, in another order, and the effective depth.
        paths: How much gradient comes by paths of which length.
        gradients: Gradients by depth, now and at initialisation with and without BN and shortcuts.
        downsampling: Which positions blocks with a stride never read.
        perturbations: How small changes grow, and what shifts of the image do.
        gates: How far a Highway network's gates are open.
        attribution: Which parts of some images speak for the class that was chosen.
        shattering: How alike gradients at neighbouring inputs are, in fresh networks; not of the weights.
        identity: How well fresh stacks of layers learn to copy; not of the weights.
        out: The page, such as xray.html, with the figures as JSON in a folder beside it; or that folder.
        figures: Folder for each figure as a picture, for a paper or a slide.
        format: Of these pictures.
        images: How many images to look at, evenly spaced over the split; costly figures take fewer.
        split: Which images; of a folder without test/ or val/, test is a fifth held out, and all is all.
        net: The network, where names and shapes of the weights cannot tell.
        outputs: Text file with the name of each output's class, a line each, if the weights do not say.
        mean: Of the pixels (0 to 1) that the network was trained on, for each channel, if the weights do not say.
        std: Their standard deviation.
        batch_size: Images at a time.
        precision: Of the forward passes.
        device: cpu, cuda, cuda:1, ...; by default CUDA where there is one.
        threads: CPU threads; by default all cores.
        open: Open the page in the browser.
        json: Print JSON.
    """
    from reslab.commands.names import check

    check(net=net, data=data, weights=weights)
    from reslab.commands.probe import Options, run
    from reslab.commands.subject import Looking

    asked = {
        "responses": responses, "shares": shares, "lesions": lesions, "paths": paths, "gradients": gradients,
        "downsampling": downsampling, "perturbations": perturbations, "gates": gates, "attribution": attribution,
        "shattering": shattering, "identity": identity,
    }  # fmt: skip
    looking = Looking(
        data=data, net=net, images=images, split=split, mean=mean, std=std, batch=batch_size, precision=precision,
        outputs=outputs,
    )  # fmt: skip
    page = run(
        Options(
            weights=weights, looking=looking, groups=tuple(name for name, wanted in asked.items() if wanted),
            every=all, out=out, figures=figures, format=format, device=device, threads=threads, json=json,
        )
    )  # fmt: skip
    if page is not None:
        _show(page, open)


@app.command
def prune(
    weights: str,
    /,
    *,
    data: str,
    out: Path,
    drop: int | None = None,
    max_error: float | None = None,
    finetune: int = 0,
    lr: float = 0.01,
    calibrate: Annotated[bool, Parameter(negative="--no-calibrate")] = True,
    images: int = 2000,
    rounds: int = 5,
    report: Path | None = None,
    figure: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)] = (),
    seed: int = 0,
    net: Net = None,
    outputs: Path | None = None,
    mean: Numbers = (),
    std: Numbers = (),
    batch_size: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 100,
    precision: Literal["bf16", "fp32"] = "fp32",
    device: str | None = None,
    threads: int | None = None,
    force: bool = False,
    json: bool = False,
) -> None:
    """Make a network faster by taking out the blocks that it misses least.

    `reslab prune runs/resnet56 --data cifar10 --max-error 1 --out small.safetensors --report curve.html`

    After each removal every block that is left is measured again. Training images choose the block, half of the test
    images decide how far it goes, and the errors shown are of the other half.

    Args:
        weights: A file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME.
        data: digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder.
        out: The file to write: .safetensors.
        drop: Take out so many blocks; or
        max_error: as many as raise the error by at most so many percentage points.
        finetune: Train the result on for so many mini-batches of 128.
        lr: Learning rate of the first of these; it falls linearly.
        calibrate: Take BN's statistics anew after each removal.
        images: Training images that choose, and that BN's statistics are taken from.
        rounds: Of timing; in each every network has a turn.
        report: Also write the curve as this page, with its figures as JSON beside it.
        figure: Also write the curve to these files: .pdf, .svg or .png.
        seed: Of the fine-tuning's order and augmentation.
        net: The network, where names and shapes of the weights cannot tell.
        outputs: Text file with the name of each output's class, a line each, if the weights do not say.
        mean: Of the pixels (0 to 1) that the network was trained on, for each channel, if the weights do not say.
        std: Their standard deviation.
        batch_size: Images at a time, also where time is measured.
        precision: Of the passes.
        device: cpu, cuda, cuda:1, ...; by default CUDA where there is one.
        threads: CPU threads; by default all cores.
        force: Overwrite the file.
        json: Print JSON.
    """
    from reslab.commands.names import check

    check(net=net, data=data, weights=[weights])
    from reslab.commands.prune import Options, run
    from reslab.commands.subject import Looking

    looking = Looking(
        data=data, net=net, images=images, split="test", mean=mean, std=std, batch=batch_size, precision=precision,
        outputs=outputs,
    )  # fmt: skip
    run(
        Options(
            weights=weights, out=out, looking=looking, drop=drop, max_error=max_error, finetune=finetune, lr=lr,
            calibrate=calibrate, rounds=rounds, report=report, figure=figure, seed=seed, force=force, device=device,
            threads=threads, json=json,
        )
    )  # fmt: skip


@app.command
def features(
    weights: str,
    /,
    *,
    data: str,
    out: Path,
    stages: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ("pool",),
    split: Literal["test", "train", "all"] = "test",
    images: int = 10000,
    net: Net = None,
    outputs: Path | None = None,
    mean: Numbers = (),
    std: Numbers = (),
    batch_size: Annotated[int, Parameter(name=["--batch-size", "-b"])] = 100,
    precision: Literal["bf16", "fp32"] = "fp32",
    device: str | None = None,
    threads: int | None = None,
    force: bool = False,
) -> None:
    """Write what leaves a network's stages to a file, for other tools to work on.

    `reslab features runs/resnet20 --data cifar10 --stages layer3 pool --out features.npz`

    Args:
        weights: A file, a run's folder, reslab:NAME, torchvision:NAME/VARIANT, timm:NAME.TAG or hf:ORG/NAME.
        data: digits, cifar10, cifar100, synthetic, or the path of a Parquet or image folder.
        out: The file to write: .npz or .parquet; the labels are in it too.
        stages: stem, layer1, layer2, ..., pool (what the last layer takes) or logits.
        split: Which images; of a folder without test/ or val/, test is a fifth held out, and all is all.
        images: At most so many of them, evenly spaced over the split.
        net: The network, where names and shapes of the weights cannot tell.
        outputs: Text file with the name of each output's class, a line each, if the weights do not say.
        mean: Of the pixels (0 to 1) that the network was trained on, for each channel, if the weights do not say.
        std: Their standard deviation.
        batch_size: Images at a time.
        precision: Of the passes; what is written is fp32.
        device: cpu, cuda, cuda:1, ...; by default CUDA where there is one.
        threads: CPU threads; by default all cores.
        force: Overwrite the file.
    """
    from reslab.commands.names import check

    check(net=net, data=data, weights=[weights])
    from reslab.commands.features import Options, run
    from reslab.commands.subject import Looking

    looking = Looking(
        data=data, net=net, images=images, split=split, mean=mean, std=std, batch=batch_size, precision=precision,
        outputs=outputs,
    )  # fmt: skip
    run(
        Options(
            weights=weights, out=out, looking=looking, stages=stages, force=force, device=device, threads=threads,
        )
    )  # fmt: skip


@app.command
def nets(
    name: str | None = None,
    /,
    *,
    compare: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    size: int | None = None,
    diagram: bool = False,
    svg: Path | None = None,
    json: bool = False,
) -> None:
    """List the networks of the papers, or show one: its stages, blocks and cost.

    Args:
        name: Show this network: resnet56, "cifar_resnet(depth=38)".
        compare: Show 2 to 5 networks side by side, and where they differ: --compare resnet50-v1 resnet50 resnet50d
        size: Count for images of this many pixels a side.
        diagram: Draw the network and each kind of its blocks.
        svg: Write the drawing to this file, as SVG.
        json: Print JSON.
    """
    from reslab.commands.nets import run

    run(name, compare=compare, size=size, diagram=diagram, svg=svg, as_json=json)


def _show(report: Path, open_it: bool) -> None:
    if open_it:
        webbrowser.open(report.resolve().as_uri())


def _rank() -> str:
    """Which of several processes this is, where a launcher started them."""
    rank = os.environ.get("RANK")
    return "" if rank is None or os.environ.get("WORLD_SIZE", "1") == "1" else f" [rank {rank}]"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command.

    Exit codes: 0 done, 1 output that nobody read, 2 something to mend in what was asked, 130 interrupted.
    """
    logging.basicConfig(format="reslab: %(message)s", level=logging.WARNING)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (InputError, CycloptsError) as error:
        # One line, whatever the width of the terminal: it can be searched for and cut out.
        Console(stderr=True).print(
            f"reslab{_rank()}: error: {' '.join(str(error).split())}", markup=False, highlight=False, soft_wrap=True
        )
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        # Commands that leave something to go on with say so in the exception.
        print(f"reslab: interrupted; {stop}" if str(stop) else "reslab: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Who reads the output has seen enough (`| head`); what Python would still write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
