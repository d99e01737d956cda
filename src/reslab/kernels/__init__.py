"""Kernels for the CPU, compiled on the spot, and for GPUs, by Triton: an execution mode on top of the module graph."""
