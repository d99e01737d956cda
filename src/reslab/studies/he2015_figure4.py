"""Speed of convergence, plain against residual: He et al. 2015, Fig. 4.

reslab study convergence --data cifar10 --budget 60
"""

from reslab.studies.design import EARLY, Claim, Depths, Sooner, Study, Test, twins
from reslab.studies.he2015_figure6 import at_least_two, plain_and_residual

THRESHOLD = 40.0


def _sooner(depths: Depths) -> tuple[Test, ...]:
    return (Sooner(*reversed(twins(depths[0]))),)


def _deep_sooner(depths: Depths) -> tuple[Test, ...]:
    return (Sooner(*reversed(twins(depths[-1]))),)


STUDY = Study(
    name="convergence",
    title="Speed of convergence",
    question="Does a residual network reach the same training error in fewer iterations than its plain twin?",
    paper="He, Zhang, Ren, Sun 2015, arXiv 1512.03385, Fig. 4",
    scales=((20, 32), (20, 44), (20, 56)),
    usual=(20, 56),
    arms=plain_and_residual,
    claims=(
        Claim(
            "he2015-converges-faster",
            "He et al. 2015, section 4.1",
            "Where both can be trained, the residual network converges faster than its plain twin.",
            _sooner,
            extent=EARLY,
        ),
        Claim(
            "he2015-converges-faster-deep",
            "He et al. 2015, beside Fig. 4 (there of 18 layers)",
            "The deep residual network converges faster than its deep plain twin.",
            _deep_sooner,
            extent=EARLY,
        ),
    ),
    precision="fp32",
    threshold=THRESHOLD,
    on="ImageNet",
    caveats=("The paper shows this on ImageNet, for 18 and 34 layers.",),
    check=at_least_two,
)
