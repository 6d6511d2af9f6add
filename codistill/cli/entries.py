"""Methods and tasks for reading: all in a line each, or one whole."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from codistill.cli.shared import console
from codistill.experiments.describe_registry import Entry


def print_choices(choices: Mapping[str, str]) -> None:
    for name, line in choices.items():
        console.print(f"[bold]{name:<14}[/bold] {escape(line)}", soft_wrap=True)


def print_entry(entry: Entry) -> None:
    console.print(f"[bold]{entry.name}[/bold]\n\n{escape(entry.text)}\n", soft_wrap=True)
    console.print(f"{escape(entry.usage)}\n", soft_wrap=True)
    if entry.settings:
        table = Table("setting", "type", "default")
        for setting in entry.settings:
            table.add_row(*map(escape, setting))
        console.print(table)
    console.print(
        f"Cost at 100 classes, for a pair of ResNet-32, or of a task for the one that has it: {entry.passes:g} forward "
        f"passes per student and step, {entry.extra_parameters:,} training-only parameters.",
        soft_wrap=True,
    )
