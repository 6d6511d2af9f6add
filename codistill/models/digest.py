"""The file whose weights a student begins with, ``pretrained: FILE``, and its digest.

The digest becomes part of the run's configuration: who trains it again begins with the same weights, or is told.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codistill.errors import UserError
from codistill.storage.hashing import sha256_of


def with_digest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a model, with the ``sha256`` of the file that ``pretrained`` names, unless they have one."""
    file = settings.get("pretrained")
    if "sha256" in settings or not isinstance(file, str) or not Path(file).expanduser().is_file():
        return dict(settings)  # a file that is not there is missed by whoever reads it
    return {**settings, "sha256": digest_of(file)}


def digest_of(file: str) -> str:
    """SHA-256 in hexadecimal digits. Raises UserError for a file that cannot be read."""
    try:
        return sha256_of(Path(file).expanduser())
    except OSError as error:
        raise UserError(f"The file '{file}' cannot be read: {error.strerror}.") from error


def check_digest(file: str, sha256: str) -> None:
    """Raises UserError for a file that is not there, or another one."""
    if not Path(file).expanduser().is_file():
        raise UserError(f"There is no file '{file}'.")
    if (now := digest_of(file)) != sha256:
        raise UserError(
            f"'{file}' is not the file that 'sha256' tells: it should begin with {sha256[:12]}, and begins with "
            f"{now[:12]}. Bring the file back, or set sha256 of that student to null to begin with this one."
        )
