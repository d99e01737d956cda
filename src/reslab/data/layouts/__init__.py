"""How images lie on disk: a module for each layout; `reslab.data.find` has the list of them."""
