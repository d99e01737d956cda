"""Analyses of networks: each probe is a function of a network and some images that returns arrays.

All open the network through `reslab.probes.seam.opened`, which leaves it as it was found: weights, the mode of each
module, running statistics, hooks and random numbers.
"""
