"""Types of settings, with their bounds, that several methods have and pydantic does not."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]  # of training or of a weight
Decay = Annotated[float, Field(ge=0, lt=1)]  # of a running mean
