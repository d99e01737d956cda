"""What a network is worth: protocols, scores, and the figures that come of them."""
