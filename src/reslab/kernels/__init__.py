"""Kernels for the CPU, compiled on the spot: an execution mode on top of the module graph."""
