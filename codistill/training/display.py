"""Progress for people, of decoding and of training: a bar on a terminal, plain lines now and then anywhere else."""

from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as RichProgress

from codistill.errors.terminal import Terminal
from codistill.training.recorder import Display, Progress

MANY_IMAGES = 2000  # fewer are decoded before anyone has read a line about it


class Silent:
    """Shows nothing."""

    def decoding(self, done: int, total: int) -> None: ...

    def tick(self, progress: Progress) -> None: ...

    def line(self, progress: Progress) -> None: ...

    def note(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...


class Keeping:
    """Another display that keeps what it is warned of, each text once."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self.warned: list[str] = []

    def decoding(self, done: int, total: int) -> None:
        self._display.decoding(done, total)

    def tick(self, progress: Progress) -> None:
        self._display.tick(progress)

    def line(self, progress: Progress) -> None:
        self._display.line(progress)

    def note(self, text: str) -> None:
        self._display.note(text)

    def warn(self, text: str) -> None:
        if text not in self.warned:
            self.warned.append(text)
        self._display.warn(text)


class Bar:
    """A rich progress bar with epoch, time left, objective, each student's cross-entropy and accuracy, and images/s."""

    def __init__(self, console: Console) -> None:
        self._bar = RichProgress(
            BarColumn(bar_width=20), TextColumn("{task.description}"), console=console, refresh_per_second=4
        )
        self._task: TaskID | None = None
        self._decoding: TaskID | None = None

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def decoding(self, done: int, total: int) -> None:
        if total < MANY_IMAGES:
            return
        if self._decoding is None:
            self._decoding = self._bar.add_task("", total=total)
        self._bar.update(self._decoding, completed=done, description=f"Decoding images  {done:,}/{total:,}")
        if done == total:
            self._bar.remove_task(self._decoding)
            self._decoding = None

    def tick(self, progress: Progress) -> None:
        if self._task is None:
            self._task = self._bar.add_task("")
        self._bar.update(self._task, completed=progress.step, total=progress.steps, description=describe(progress))

    def line(self, progress: Progress) -> None:
        """The bar shows it already."""

    def note(self, text: str) -> None:
        self._bar.console.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        self._bar.console.print(f"[yellow]Warning:[/yellow] {escape(text)}", soft_wrap=True)


class Lines:
    """One line per log interval: what a cluster's log, or a notebook, should hold. ``console``: standard output."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Terminal(highlight=False)

    def __enter__(self) -> "Lines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""

    def decoding(self, done: int, total: int) -> None:
        if done == 0 and total >= MANY_IMAGES:
            self._console.print(f"Decoding {total:,} images", soft_wrap=True)

    def tick(self, progress: Progress) -> None:
        """Steps between two log intervals say nothing."""

    def line(self, progress: Progress) -> None:
        self._console.print(f"step {progress.step}/{progress.steps}  {describe(progress)}", soft_wrap=True)

    def note(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        self._console.print(f"Warning: {escape(text)}", soft_wrap=True)


def describe(progress: Progress) -> str:
    """``epoch 3/100  1:05 left  objective 4.310  a ce 1.214, 45.1 %  b ce 1.302, 44.0 %  1,203 images/s``."""
    parts = [f"epoch {progress.epoch}/{progress.epochs}"]
    if progress.seconds_left is not None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    if progress.objective is not None:
        parts.append(f"objective {progress.objective:.3f}")
    marks = {name: [f"ce {loss:.3f}"] for name, loss in progress.cross_entropy.items()}
    for name, accuracy in progress.validation.students.items() if progress.validation else ():
        marks.setdefault(name, []).append(f"{accuracy:.1f} %")
    parts += [f"{name} {', '.join(found)}" for name, found in marks.items()]
    if progress.seconds_left is not None:
        parts.append(f"{progress.images_per_second:,.0f} images/s")
    return "  ".join(parts)


def choose_display(console: Console) -> Bar | Lines:
    """A bar where it can be drawn, lines elsewhere."""
    return Bar(console) if console.is_terminal and not console.quiet else Lines(console)
