"""Detection: boxes read and looked at, torchvision's detectors on our backbones, average precision out."""
