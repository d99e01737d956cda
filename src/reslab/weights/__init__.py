"""Weights of any residual network in the world: read, recognised, renamed, and written back.

`load` takes a file or the name of weights on a hub and returns them under this package's names (which are
torchvision's), with the network that they are of. Foreign names live in `keys` and nowhere else.
"""
