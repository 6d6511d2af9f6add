"""Two steps of a run that nobody keeps: does everything fit together, and do the numbers stay numbers?"""

from codistill.config.schema import RunConfig
from codistill.training.build import build
from codistill.training.meter import Meter
from codistill.training.step import Step

STEPS = 2


def dry_run(config: RunConfig) -> None:
    """Build a run and take its first steps. Raises UserError, or DivergedError for a loss that is not finite."""
    experiment = build(config)
    settings = config.optimizer.settings
    optimizer = experiment.runtime.optimizer(experiment.cohort, config.lr_factors, lr=config.optimizer.lr, **settings)
    step = Step(experiment.cohort, experiment.objective, optimizer, experiment.runtime, config.optimizer.clip_norm)
    experiment.cohort.train()
    meter = Meter()
    for number, (batch, _) in enumerate(zip(experiment.loader.epoch(0), range(STEPS), strict=False)):
        losses, total = step.forward(batch, progress=number / STEPS)
        step.backward(total)
        step.update(config.optimizer.lr)
        meter.update(losses)
    meter.read()
