"""Several processes: how they find each other, and who does what."""
