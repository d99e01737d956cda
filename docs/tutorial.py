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
# You know what a convolution is. Here you see why networks of many convolutions stopped getting better, what
# *Deep Residual Learning for Image Recognition* (He, Zhang, Ren, Sun 2015) did about it, and how to use it on images of
# your own. Everything runs on a laptop's CPU in about a minute.

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
# Two layers are asked for a function $H(x)$. A **plain** block computes it outright. A **residual** block computes only
# what is to be *added* to its input, $F(x) = H(x) - x$, and a shortcut carries $x$ past the layers:
# $$y = \mathrm{ReLU}(F(x) + x)$$
# If the best thing to do is nothing, a plain block has to learn the identity through two layers and two ReLUs. A
# residual block only has to push $F$ to zero.


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
# The same digits, the same number of layers, the same parameters, the same steps; the only difference are the
# shortcuts, which have no parameters. (`reslab.build` knows the networks of the paper; this is a narrow one of 32
# layers.)

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
    """In per cent, of the test images."""
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
# This is the **degradation problem**: the plain network is not too flexible for the data, it cannot even be *trained*
# as quickly. What these layers can compute includes everything a shallower network can, and still they do worse. With
# shortcuts the same layers learn at once. `reslab demo` shows it for 20 and 56 layers with error bars, and
# [why shortcuts help](why-shortcuts-help.md) goes further.
#
# ## 3. A look inside
# If each block only *adds* to what comes in, a network should survive the loss of one. Take the trained twins, replace
# one block after the other by nothing (the identity), and test again without any training (Veit et al. 2016):


# %%
def without(net: nn.Module, stage: str, index: int) -> float:
    """Test error with one block taken out."""
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
    ]  # those change the size, and cannot be left out
    plt.plot([without(net, *place) for place in places], "o-", label=kind)
plt.xlabel("block that was taken out")
plt.ylabel("test error, %")
plt.ylim(0, 100)
plt.legend()
plt.show()

# %% [markdown]
# `reslab probe` does this, and eleven other figures, for any residual network's weights.
#
# Reslab comes with the paper's ResNet-20, trained for its 64,000 iterations. What does it say of a photograph, and
# where did it look?

# %%
clf = reslab.Classifier.load("reslab:resnet20-cifar10")
photograph = Image.fromarray(load_sample_image("flower.jpg"))
answer = clf.explain(photograph)
print(f"{answer.name}, {answer.probability:.0%}: it knows ten classes, and flowers are none of them")
answer.picture

# %% [markdown]
# ## 4. Your own images
# A folder for each class is all that is needed. Here two are made from parts of two photographs; put your own in their
# place.

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
# `mine.report()` is the path of a page with the confusion matrix, the worst mistakes and how far its probabilities can
# be believed. On the command line it is `reslab finetune photos` and `reslab predict RUN picture.jpg`;
# [how it trains and why](fine-tuning.md) is measured. With `weights="torchvision:resnet50"` it starts from ImageNet.
