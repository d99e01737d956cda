"""Decodes images, whole or only the part that is needed, with the same pixels either way."""
