"""How often the rule of studies is wrong, by simulation: results/false_verdicts.json.

    python benchmarks/false_verdicts.py

Claims by the code that judges them, their truth exactly on the bound; then many more p-values of differences of other
shapes; then whole ledgers. About five minutes.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from reslab import runs
from reslab.studies.power import differences_seen
from reslab.studies.rates import CASES, SHAPES, ledger_rate, resampled, share_below, wrong_share
from reslab.studies.sequential import LEVEL, LOOKS

SPREADS = (0.4, 1.3)
"""Points: between two networks as seen at 2,000 to 4,000 iterations, and about a third of it, as of long trainings."""
P_VALUES, LEDGERS = 200_000, 1_000
CLAIMS = 45


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2_000, help="simulated studies of each case")
    parser.add_argument("--results", type=Path, default=Path("results"), help="records that a shape is taken from")
    parser.add_argument("--out", type=Path, default=Path("results/false_verdicts.json"))
    options = parser.parse_args()
    seen = [each.values for each in differences_seen([options.results])]
    shapes = SHAPES | {"as seen": resampled(seen)}
    random = np.random.default_rng(20261127)
    cases = [
        (
            wrong_share(case, shapes[shape], spread=spread, trials=options.trials, random=random),
            {"claim": case.claim, "wrong verdict": case.wrong, "shape": shape, "spread": spread},
        )
        for case in CASES
        for shape in ("normal", "as seen")
        for spread in SPREADS
    ]  # fmt: skip
    tests = {name: share_below(draw, trials=P_VALUES, random=random) for name, draw in shapes.items()}
    ledgers = []
    for name, draw in shapes.items():
        for true in (0.0, 0.3, 0.7):
            for effect in (1.0, 3.0):
                rate = ledger_rate(
                    draw, claims=CLAIMS, true=true, effect=effect, groups=5, trials=LEDGERS, random=random
                )
                ledgers.append((rate, {"shape": name, "true": true, "effect": effect}))
    kept = {
        "what": "shares of wrong verdicts where the truth lies on the bound, at any look; to be at most 0.05",
        "command": "python benchmarks/false_verdicts.py",
        "when": runs.now(),
        "looks": LOOKS, "level": LEVEL, "trials": options.trials, "p_values": P_VALUES, "ledgers": LEDGERS,
        "claims_of_a_ledger": CLAIMS, "comparisons_seen": len(seen), "seed": 20261127,
        "worst_claim": max(share for share, _ in cases), "worst_ledger": max(rate.false for rate, _ in ledgers),
        "claims": [about | {"share": share} for share, about in cases], "comparisons": tests,
        "ledger": [about | {"false": rate.false, "decided": rate.reached} for rate, about in ledgers],
    }  # fmt: skip
    options.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: kept[key] for key in ("worst_claim", "worst_ledger", "comparisons")}, indent=1))


if __name__ == "__main__":
    main()
