"""A user's own images: looked at, learnt from, and what came of it."""
