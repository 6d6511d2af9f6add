"""Test accuracies as a table."""

from rich.markup import escape
from rich.table import Table

from codistill.cli.shared import console
from codistill.training.evaluate import Accuracy


def print_accuracy(accuracy: Accuracy) -> None:
    table = Table("", "test accuracy")
    for name, percent in accuracy.students.items():
        table.add_row(f"student {escape(name)}", f"{percent:.2f} %")
    if accuracy.teacher is not None:
        table.add_row("teacher", f"{accuracy.teacher:.2f} %")
    if accuracy.ensemble is not None:
        table.add_row("ensemble of the students", f"{accuracy.ensemble:.2f} %")
    console.print(table)
