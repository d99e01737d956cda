"""What is evaluated by ``reslab eval``, one by one and together."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reslab.evaluate.ensemble import averaged, best_subsets, check_together
from reslab.evaluate.figures import figures
from reslab.evaluate.predict import Answer
from reslab.evaluate.predictions import Predictions
from reslab.evaluate.protocols import Ensemble, Single
from reslab.runs import now


@dataclass(frozen=True)
class Member:
    """What one of the weights, or a file of predictions, has to say."""

    called: str
    answer: Answer

    def record(self) -> dict[str, Any]:
        """The result as plain values."""
        about = self.answer.predictions.about
        logs, labels = self.answer.predictions.logs, self.answer.predictions.labels
        found = figures(logs, labels).as_dict()
        return found | {
            "called": self.called,
            "protocol": about.protocol.called,
            "protocol_fields": about.protocol.model_dump(mode="json"),
            "precision": about.precision,
            "seconds": about.seconds,
            "images_per_second": round(len(labels) / about.seconds, 1) if about.seconds else None,
            "weights": about.weights,
            "net": about.net,
            "data": about.data,
            "split": about.split,
            "preprocessing": about.preprocessing,
            "notes": list(about.notes),
            "outputs": about.outputs_said,
            "input": about.input,
            "recalibrated": about.recalibrated or None,
            "left_out": list(about.left_out),
            "weights_fingerprint": about.weights_fingerprint,
            "data_fingerprint": about.data_fingerprint,
            "when": about.when,
            "kept": None if self.answer.place is None else str(self.answer.place),
            "computed_again": not self.answer.again,
        }


def ensemble(
    members: Sequence[Member], records: list[dict[str, Any]], *, best_subset: bool
) -> tuple[Predictions, dict[str, Any]]:
    """The predictions of all members together, and their result, with those of the members in it."""
    every = [member.answer.predictions for member in members]
    check_together(every, [member.called for member in members])
    protocols: list[Single] = []
    for each in every:
        own = each.about.protocol
        protocols += own.members if isinstance(own, Ensemble) else [own]
    precisions = sorted({each.about.precision for each in every})
    names = (
        next((name for name in place if name is not None), None)
        for place in zip(*(each.about.outputs for each in every), strict=True)
    )
    digest = hashlib.blake2b("".join(each.about.key() for each in every).encode(), digest_size=8).hexdigest()
    about = every[0].about.model_copy(
        update={
            "weights": " + ".join(each.about.weights for each in every),
            "weights_fingerprint": digest,
            "net": " + ".join(each.about.net for each in every),
            "net_fingerprint": digest,
            "outputs": tuple(names),
            "protocol": Ensemble(members=tuple(protocols)),
            "preprocessing": {},
            "input": "each member's own",
            "precision": precisions[0] if len(precisions) == 1 else "mixed",
            "notes": (),
            "seconds": round(sum(each.about.seconds for each in every), 3),
            "when": now(),
        }
    )
    found = Predictions(averaged([each.logs for each in every]), every[0].labels, about)
    record = Member("ensemble", Answer(found, None, again=False)).record() | {"members": records}
    if best_subset:
        record["best_subsets"] = [
            {
                "members": [members[i].called for i in subset.members],
                "top1_error": subset.top1_error,
                "top5_error": subset.top5_error if found.logs.shape[1] > 5 else None,
            }
            for subset in best_subsets(every)
        ]
        record["best_subsets_chosen_on"] = "these very images"
    return found, record
