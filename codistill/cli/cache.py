"""``codistill cache``."""

from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from codistill.cli.shared import console, new_app
from codistill.data import cache_entry
from codistill.errors.printable import printable

app = new_app()


@app.command()
def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove the entries. Runs that use them go on.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="Only what was not used for that long.", show_default=False),
    ] = None,
) -> None:
    """The decoded images that are kept on disk, so that a run on the same data starts at once."""
    folder, unused_for = cache_entry.cache_folder(), None if older_than is None else older_than * 86_400
    if clear:
        removed, size, busy = cache_entry.clear(folder, unused_for)
        kept = f" Kept, for a process is making or opening them: {busy}." if busy else ""
        console.print(f"Entries removed: {removed} ({size / 1e6:,.1f} MB).{kept}")
        return
    entries, table, total = cache_entry.entries(folder, unused_for), Table(), 0
    for column in ("data", "split", "images", "MB", "last used"):
        table.add_column(column, overflow="fold")
    lines = []
    for entry in entries:
        size, last_use = entry.size_and_last_use()
        shape, contents = entry.read() or (None, None)
        data, split = (contents.data, contents.split) if contents else ("unfinished or damaged", "")
        images = "{0:,} of {2}x{1}".format(*shape) if shape else ""
        lines.append((data, split, last_use, images, size))
        total += size
    for data, split, last_use, images, size in sorted(lines):
        when = f"{datetime.fromtimestamp(last_use):%Y-%m-%d %H:%M}"
        table.add_row(escape(printable(data)), escape(split), images, f"{size / 1e6:,.1f}", when)
    if entries:
        console.print(table)
    console.print(
        f"Entries: {len(entries)} ({total / 1e6:,.1f} MB in {escape(printable(str(folder)))})", soft_wrap=True
    )
