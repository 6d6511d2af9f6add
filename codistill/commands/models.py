"""``codistill models``."""

from codistill.commands.shared import console, new_app
from codistill.models import MODELS
from codistill.student import Student

app = new_app()


@app.command()
def models() -> None:
    """The networks that can be students, with their parameters at 100 classes."""
    for name, make in MODELS.items():
        count = sum(parameter.numel() for parameter in Student(make(), 100).parameters())
        console.print(f"[bold]{name:<10}[/bold] {count:>10,} parameters. CIFAR ResNet, basic blocks (arXiv:1512.03385)")
