"""Out of the lab: networks folded, exported, checked against the original, and run by other runtimes."""
