"""Which sections a page has of one run, in their order. What has no data says so, and how to get it."""

from codistill.report import sections_after, sections_training
from codistill.report.compare import Row
from codistill.report.parts import Section
from codistill.report.story import Story


def sections_of(story: Story, row: Row | None, control: Story | None) -> list[Section]:
    """Everything that is told of one run, which is of this row if it is finished."""
    return [
        sections_training.accuracy(story, control),
        sections_training.losses(story),
        sections_training.richness_and_diversity(story),
        *([] if story.alone else [sections_after.contributions(story), sections_after.fixed(story, row, control)]),
        sections_after.calibration(story),
        sections_after.cost(story),
        sections_after.warnings(story),
        sections_after.configuration(story),
    ]
