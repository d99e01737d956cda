"""What every process that times a work imports sooner or later: once, by the server that they are forked from.

An optimiser's first step imports PyTorch's compiler, and so does torchvision: 2 to 4 seconds in each process.
"""

import os

# Before the compiler reads it: its pool of processes would outlive those that are forked from here for a moment, and
# gains little on what is compiled once.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import torch._dynamo  # noqa: F401
import torchvision.transforms.v2  # noqa: F401

import reslab.bench.peers  # noqa: F401
