"""What is said when a step cannot be compiled, which shows in the first one."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codistill.errors import TrainingEnded, first_line


class Uncompilable(TrainingEnded):
    """Code of a backbone or task that PyTorch makes no graph of, or a machine without what compiling needs."""

    headline = "Cannot be compiled"


@contextmanager
def uncompilable_explained(run: Path) -> Iterator[None]:
    """As a context: the compiler's errors become one that says how to go on without it."""
    try:
        yield
    except Exception as error:
        # By its name: importing the compiler's own classes takes seconds, also where nothing is compiled.
        if not type(error).__module__.startswith("torch._dynamo."):
            raise
        raise Uncompilable(
            f"PyTorch says: {first_line(error)} Train without compiling, some slower: "
            f"codistill train {shlex.quote(f'{run}/config.yaml')} compile=false run=ANOTHER_FOLDER"
        ) from error
