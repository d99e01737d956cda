"""A realistic summary from synthetic curves: what a study of CIFAR-10 at 4,000 iterations looks like."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from reslab.report.summary import GROUPS, Curve, Judgement, Kind, Run, Summary, Verdict, VerdictPart, rows_of

PARAMS = {20: 269_722, 32: 464_154, 44: 658_586, 56: 853_018, 110: 1_727_962}
# Where training error ends and how fast it falls, in per cent and as a share of the training.
FLOORS: dict[tuple[Kind, int], tuple[float, float]] = {
    ("plain", 20): (10.5, 0.17),
    ("plain", 32): (14.2, 0.22),
    ("plain", 44): (18.9, 0.27),
    ("plain", 56): (25.6, 0.34),
    ("residual", 20): (8.6, 0.14),
    ("residual", 32): (7.4, 0.145),
    ("residual", 44): (6.9, 0.15),
    ("residual", 56): (6.4, 0.155),
}


def run(kind: Kind, depth: int, seed: int, iterations: int = 4000, threshold: float | None = 20.0) -> Run:
    rng = random.Random(f"{kind}{depth}{seed}")
    floor, tau = FLOORS[kind, depth]
    floor *= 1 + rng.uniform(-0.06, 0.06)
    steps = [0, *range(iterations // 40, iterations + 1, iterations // 40)]
    train: list[float | None] = []
    test: list[float | None] = []
    for step in steps:
        done = step / iterations
        # Before the drops of the learning rate the error is higher and noisier.
        heat = 1.45 if done < 0.5 else 1.1 if done < 0.75 else 1.0
        noise = (heat - 0.98) * rng.uniform(-1, 1)
        error = floor * heat + (90 - floor * heat) * math.exp(-done / tau)
        train.append(round(min(90.0, max(0.0, error * (1 + 0.08 * noise))), 3))
        test.append(round(min(90.0, error * (1 + 0.5 * abs(noise)) + 2.4 * (1 - math.exp(-done * 4))), 3))
    reached = None
    if threshold is not None:
        under = (s for s, e in zip(steps, train, strict=True) if e is not None and e < threshold)
        reached = next(under, None)
    name = "plain" if kind == "plain" else "resnet"
    final_train, final_test = train[-1], test[-1]
    assert final_train is not None
    assert final_test is not None
    return Run(
        name=f"{name}{depth}-seed{seed}",
        label=f"{name}{depth}",
        group=GROUPS[kind],
        net=f"{name}{depth}",
        kind=kind,
        depth=depth,
        x=float(depth),
        seed=seed,
        iterations=iterations,
        params=PARAMS[depth],
        final_train_error=final_train,
        final_test_error=final_test,
        best_test_error=min(error for error in test if error is not None),
        iterations_to_threshold=reached,
        curve=Curve(iteration=tuple(steps), train_error=tuple(train), test_error=tuple(test)),
    )


VERDICTS: dict[Judgement, tuple[str, Judgement, Judgement]] = {
    "held": (
        "Degradation shows here: the deeper plain network has the higher training error in every pair of "
        "seeds, and its residual twin turns that round.",
        "held",
        "held",
    ),
    "not held": (
        "Degradation does not show here: the deeper plain network trains as well as the shallow one.",
        "not held",
        "held",
    ),
    "not decided": (
        "Not shown here: the two plain networks are closer than their seeds are to one another, so these "
        "runs do not decide it.",
        "not decided",
        "held",
    ),
}


def sample(
    depths: Sequence[int] = (20, 56),
    seeds: int = 3,
    kinds: Sequence[Kind] = ("plain", "residual"),
    overall: Judgement = "held",
    iterations: int = 4000,
    threshold: float | None = 20.0,
    published: dict[str, float] | None = None,
    data_name: str = "cifar10",
    x_label: str | None = None,
) -> Summary:
    runs = [run(k, d, s, iterations, threshold) for k in kinds for d in depths for s in range(seeds)]
    sentence, first, second = VERDICTS[overall]
    return Summary(
        study="degradation",
        title="The degradation problem, and what shortcuts do to it",
        question="Does a deeper plain network have the higher training error, and does its residual twin "
        "turn that round?",
        paper="He et al. 2015, Fig. 1, Fig. 6, Table 6",
        command="reslab study degradation --data data/cifar10 --depths 20 56 --seeds 3 --iterations 4000 "
        "--out results/degradation-cifar10",
        reslab_version="0.1.0",
        started="2026-03-01T10:00:05+00:00",
        finished="2026-03-01T14:12:40+00:00",
        wall_seconds=15155.0,
        machine={
            "cpu": "Intel Xeon, 2.6 GHz",
            "cores": "2",
            "memory": "7.8 GiB",
            "torch": "2.11.0",
            "precision": "bf16",
            "gpu": "none",
        },
        data={
            "name": data_name,
            "source": "data/cifar10",
            "n_train": 50_000,
            "n_test": 10_000,
            "classes": 10,
            "fingerprint": "sha256:3f1c9a6be0d24771",
        },
        recipe={
            "iterations": iterations,
            "batch": 128,
            "epochs": round(iterations * 128 / 50_000, 2),
            "lr": 0.1,
            "drops": (iterations // 2, iterations * 3 // 4),
            "weight_decay": 1e-4,
        },
        how_measured=(
            "Training error: over each stretch of 100 iterations, on augmented batches as trained on.",
            "Test error: the 10,000 test images once, at the last iterate; the curve chooses nothing.",
            "Seeds are paired: seed k gives every network the same order and augmentation of images.",
        ),
        differs_from_paper=(
            f"{iterations:,} iterations instead of 64,000; the learning rate drops in proportion.",
            "BN statistics over 128 images on one device instead of 64 on each of two.",
        ),
        caveats=(
            "So short a run shows that the deep plain network is harder to optimise within the budget; it "
            "does not show degradation after saturation.",
            "Three seeds give a rough standard deviation.",
        ),
        runs=tuple(runs),
        rows=rows_of(runs, published),
        threshold=threshold,
        x_label=x_label,
        verdict=Verdict(
            rule="Held if in every pair of seeds the deeper plain network ends with the higher training "
            "error, the mean difference is more than 1 point and more than twice its standard error, and the "
            "residual twins’ difference has the other sign or is under 1 point; not held if the plain "
            "difference is reliably under 1 point; otherwise not decided.",
            parts=(
                VerdictPart(
                    question="Has plain56 the higher training error than plain20?",
                    verdict=first,
                    numbers="28.89 against 10.68 %: +18.2 points, in 3 of 3 pairs, standard error 0.4",
                ),
                VerdictPart(
                    question="Does resnet56 train at least as well as resnet20?",
                    verdict=second,
                    numbers="6.33 against 8.67 %: −2.3 points, in 3 of 3 pairs, standard error 0.2",
                ),
            ),
            overall=overall,
            sentence=sentence,
        ),
    )
