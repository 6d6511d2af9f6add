"""Methods by name. To add one: a file, a test, a line here."""

from collections.abc import Callable

from codistill.method import Method
from codistill.methods.collaborative import collaborative
from codistill.methods.dml import dml
from codistill.methods.independent import independent

# Each is called as method(shapes, **settings) with the students' shapes by name.
METHODS: dict[str, Callable[..., Method]] = {
    "independent": independent,
    "dml": dml,
    "collaborative": collaborative,
}

__all__ = ["METHODS", "collaborative", "dml", "independent"]
