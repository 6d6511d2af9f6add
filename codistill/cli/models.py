"""``codistill models``."""

from rich.markup import escape

from codistill.cli.shared import console, new_app
from codistill.experiments.describe_registry import model_summaries

app = new_app()


@app.command()
def models() -> None:
    """The networks that can be students, with their parameters at 100 classes.

    Moreover timm/NAME, any model of timm, and my_package.nets:make, a function of your own.
    """
    for group, sizes in model_summaries().items():
        console.print(escape(group), soft_wrap=True)
        for name, count in sizes.items():
            console.print(f"  [bold]{name:<20}[/bold] {count:>12,}")
    console.print("And timm/NAME, any model of timm; my_package.nets:make, a function of your own.")
