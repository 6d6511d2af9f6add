"""What commands print to: rich's console, but for control characters in what others wrote."""

from typing import Any

from rich.console import Console
from rich.text import Text

from codistill.errors.printable import printable_lines


class Terminal(Console):
    """Its own line breaks, colours and bars are as ever; of a text's control characters, line breaks alone are."""

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(printable_lines(text), **settings)
