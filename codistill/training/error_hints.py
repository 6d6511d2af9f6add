"""What is said when a step cannot be compiled, which shows in the first one."""

import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codistill.errors import TrainingEnded, first_line
from codistill.training.error_hints_memory import lacks_memory

# By their names: to import the compiler's own classes takes seconds, also where nothing is compiled.
_COMPILER = ("torch._dynamo.", "torch._inductor.", "torch._functorch.")
_KERNELS = "triton."  # which raises plain errors, when it builds what launches a kernel


class Uncompilable(TrainingEnded):
    """Code of a backbone or task that PyTorch makes no graph of, or a machine without what compiling needs."""

    headline = "Cannot be compiled"


def compiler_says(error: BaseException) -> str | None:
    """In a line, with what may help; None for an error that is not the compiler's."""
    cause = getattr(error, "inner_exception", error)  # what a part of the compiler raised
    if isinstance(cause, RuntimeError) and lacks_memory(cause):
        return None
    kinds = [f"{kind.__module__}." for kind in type(error).__mro__]
    places = [f"{frame.f_globals.get('__name__')}." for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not (any(kind.startswith(_COMPILER) for kind in kinds) or any(place.startswith(_KERNELS) for place in places)):
        return None
    said = f"PyTorch says: {first_line(cause).rstrip('.')}."
    if "compiler" not in said:
        return said
    return f"{said} Compiling needs a C++ compiler, such as g++: install one, or name it in the variable CXX."


@contextmanager
def uncompilable_explained(run: Path) -> Iterator[None]:
    """As a context: an ``Uncompilable`` moreover says how to go on."""
    try:
        yield
    except Uncompilable as error:
        run_again = f"codistill train --resume {shlex.quote(str(run))} compile=false"
        raise Uncompilable(f"{error} Train without compiling, which is slower: {run_again}") from error
