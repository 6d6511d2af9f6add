"""The digest by which a file is known again. No torch in here."""

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """SHA-256 of what a file holds, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
