"""Images: data sets by name or folder, layouts on disk, decoding, augmentation."""
