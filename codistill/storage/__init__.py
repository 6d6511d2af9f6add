"""Files that survive: atomic writes, strict YAML, checkpoints, run folders, and what reads them."""
