"""Where images come from: names and folders, how they lie on disk, how they are decoded and augmented."""
