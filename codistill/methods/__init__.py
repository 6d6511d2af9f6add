"""Methods by name. To add one: a file, a test, a line here."""

from collections.abc import Callable

from codistill.core.method import Method
from codistill.methods.afd import afd
from codistill.methods.clilr import clilr
from codistill.methods.collaborative import collaborative
from codistill.methods.dml import dml
from codistill.methods.ffl import ffl
from codistill.methods.ffsd import ffsd
from codistill.methods.hssakd import hssakd
from codistill.methods.independent import independent
from codistill.methods.kdcl import kdcl
from codistill.methods.mcl import mcl
from codistill.methods.okddip import okddip
from codistill.methods.one import one
from codistill.methods.pcl import pcl
from codistill.methods.switokd import switokd

# Each is called as method(shapes, **settings) with the students' shapes by name.
METHODS: dict[str, Callable[..., Method]] = {
    "independent": independent,
    "dml": dml,
    "kdcl": kdcl,
    "one": one,
    "clilr": clilr,
    "okddip": okddip,
    "afd": afd,
    "ffl": ffl,
    "ffsd": ffsd,
    "pcl": pcl,
    "mcl": mcl,
    "hssakd": hssakd,
    "switokd": switokd,
    "collaborative": collaborative,
}

__all__ = ["METHODS", *METHODS]
