"""A network behind HTTP: images in, probabilities out, in batches, within limits that hold whatever is sent."""
