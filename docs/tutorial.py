# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Residual learning in ten minutes
# For readers who know what a convolution is. It shows why deeper networks stopped getting better, how *Deep Residual
# Learning for Image Recognition* (He, Zhang, Ren, Sun 2015) solved that, and how to use residual networks on your own
# images. Everything runs on a laptop's CPU in about a minute.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from torch import nn
from torch.nn import functional as F

import reslab

torch.manual_seed(0)
plt.rcParams["figure.dpi"] = 60

# %% [markdown]
# ## 1. The block, by hand
# Two layers are to learn a function $H(x)$. A **plain** block computes it directly. A **residual** block computes only
# what has to be *added* to its input, $F(x) = H(x) - x$, and a shortcut carries $x$ past the layers:
# $$y = \mathrm{ReLU}(F(x) + x)$$
# If the best a block can do is to leave its input unchanged, a plain block has to learn the identity through two layers
# and two ReLUs. A residual block only has to push $F$ to zero.


# %%
class Block(nn.Module):
    """Two 3x3 convolutions, with or without a shortcut."""

    def __init__(self, width: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(residual + x) if self.shortcut else F.relu(residual)


x = torch.rand(1, 8, 8, 8)
block = Block(8, shortcut=True)
nn.init.zeros_(block.bn2.weight)  # F(x) = 0
print("a residual block that adds nothing returns its input:", torch.equal(block(x), x))

# %% [markdown]
# ## 2. Plain against residual
# The same digits, the same number of layers, parameters and steps; the only difference is the shortcuts, which have no
# parameters. (`reslab.build` builds the paper's networks; this one has 32 narrow layers.)

# %%
data = load_digits()
images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 8 - 1
labels = torch.tensor(data.target)
train, test = slice(0, 1400), slice(1400, None)


def trained(net: nn.Module, steps: int = 60) -> list[float]:
    """The training loss of each step."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    order = torch.Generator().manual_seed(0)
    losses = []
    net.train()
    for _ in range(steps):
        batch = torch.randint(0, 1400, (128,), generator=order)
        loss = F.cross_entropy(net(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def error(net: nn.Module) -> float:
    """Test error, in per cent."""
    net.eval()
    with torch.no_grad():
        return 100 * float((net(images[test]).argmax(1) != labels[test]).float().mean())


shape = {"num_classes": 10, "in_channels": 1, "size": (8, 8)}
twins = {kind: reslab.build(f"cifar_{kind}(depth=32, width=8)", **shape) for kind in ("plain", "resnet")}
for kind, net in twins.items():
    plt.plot(trained(net), label=f"{kind}, 32 layers: test error {error(net):.0f} %")
plt.xlabel("step")
plt.ylabel("training loss")
plt.legend()
plt.show()

# %% [markdown]
# This is the **degradation problem**. The plain network does not overfit: even its *training* loss falls more slowly.
# Its layers can compute everything that a shallower network can, and still they do worse. With shortcuts the same
# layers learn quickly. `reslab demo` shows it for 20 and 56 layers with error bars, and
# [why shortcuts help](why-shortcuts-help.md) explains more.
#
# ## 3. A look inside
# If each block only *adds* to its input, a network should still work without one of them. Replace each block of the two
# trained networks in turn by the identity, and test again without retraining (Veit et al. 2016):


# %%
def without(net: nn.Module, stage: str, index: int) -> float:
    """Test error without one block."""
    blocks = getattr(net, stage)
    block = blocks[index]
    blocks[index] = nn.Identity()
    try:
        return error(net)
    finally:
        blocks[index] = block


for kind, net in twins.items():
    places = [
        (stage, i)
        for stage in ("layer1", "layer2", "layer3")
        for i in range(5)
        if (stage, i) not in (("layer2", 0), ("layer3", 0))
    ]  # those change the size, and cannot be removed
    plt.plot([without(net, *place) for place in places], "o-", label=kind)
plt.xlabel("removed block")
plt.ylabel("test error, %")
plt.ylim(0, 100)
plt.legend()
plt.show()

# %% [markdown]
# `reslab probe` makes this figure, and many others, for the weights of any residual network.
#
# Reslab comes with the paper's ResNet-20, trained on CIFAR-10 for 64,000 iterations. Which class does it predict for a
# photograph, and which part of the image does that depend on?

# %%
clf = reslab.Classifier.load("reslab:resnet20-cifar10")
photograph = Image.fromarray(load_sample_image("flower.jpg"))
answer = clf.explain(photograph)
print(f"{answer.name}, {answer.probability:.0%}: flowers are not among the ten classes that it knows")
answer.picture

# %% [markdown]
# ## 4. Your own images
# All you need is a folder per class. This example cuts its images from two photographs; use your own instead.

# %%
folder = Path("photos")
place = np.random.default_rng(0)
for name in ("china", "flower"):
    (folder / name).mkdir(parents=True, exist_ok=True)
    whole = Image.fromarray(load_sample_image(f"{name}.jpg"))
    for i in range(40):
        left, top = int(place.integers(0, whole.width - 96)), int(place.integers(0, whole.height - 96))
        whole.crop((left, top, left + 96, top + 96)).save(folder / name / f"{i:02d}.png")

mine = reslab.Classifier.finetune(folder, weights="reslab:resnet20-cifar10", out="runs/mine", trains="head", quiet=True)
mine

# %%
mine.predict([folder / "china" / "00.png", folder / "flower" / "00.png"])

# %% [markdown]
# `mine.report()` is the path of a page with the confusion matrix, the worst mistakes and how well the probabilities are
# calibrated. On the command line: `reslab finetune photos` and `reslab predict RUN picture.jpg`.
# [How it trains, and why](fine-tuning.md), with measurements. `weights="torchvision:resnet50"` starts from a network
# trained on ImageNet.
