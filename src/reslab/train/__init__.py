"""Trains a recipe into a run directory."""
