"""What the commands do, one module each; the command line only names and describes them."""
