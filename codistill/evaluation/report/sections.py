"""Which sections a page has of one run, in their order. What has no data says so, and how to get it."""

from collections.abc import Sequence

from codistill.evaluation.compare.rows import Row
from codistill.evaluation.report import sections_after, sections_training
from codistill.evaluation.report.parts import Section
from codistill.evaluation.report.run_record import Story


def sections_of(
    story: Story, row: Row | None, control: Story | None, plain: Story | None, others: Sequence[Story]
) -> list[Section]:
    """Everything that is told of one run, which is of this row if it is finished.

    control: without teaching, if there is one. plain: training without tasks, too. others: runs of the row.
    """
    return [
        sections_training.accuracy(story, control, plain),
        sections_training.losses(story),
        sections_training.richness_and_diversity(story),
        *([] if story.alone else [sections_after.contributions(story), sections_after.fixed(story, row, control)]),
        sections_after.calibration(story),
        sections_after.cost(story),
        sections_after.warnings(story, others),
        sections_after.configuration(story),
    ]
