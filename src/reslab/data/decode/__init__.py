"""From encoded images to pixels: whole ones, or the part that is wanted, the same pixels either way."""
