"""From a configuration to a cohort and its objective, for images of one shape. No data is read for it."""

from codistill.config.schema import RunConfig, TaskConfig
from codistill.core.cohort import Cohort
from codistill.core.objective import Objective
from codistill.core.student import Statistics, Student, StudentShape, observe_shapes
from codistill.errors import UserError, first_line
from codistill.methods import METHODS
from codistill.models import Model, make_backbone, name_and_settings
from codistill.tasks import TASKS, Task


def build_cohort(
    config: RunConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    data_statistics: Statistics | None = None,
    pretrained: bool = True,
) -> tuple[Cohort, Objective]:
    """The cohort of a configuration and its objective. Students come first: their weights depend on the seed alone."""
    size = image_shape[1:]
    students = {
        name: Student(make_backbone(model, size, pretrained=pretrained), num_classes, data_statistics)
        for name, model in config.students.items()
    }
    shapes = {name: _look_once(student, image_shape, config.students[name]) for name, student in students.items()}
    tasks = {
        name: {task.name: _build_task(task, shapes[name]) for task in own}
        for name, own in config.tasks_of_students.items()
    }
    method = METHODS[config.method.name](shapes, **config.method.settings)
    if config.augment.per_student is not None:
        if "own_augmentations" in config.method.settings:
            raise UserError(
                f"Method '{config.method.name}' has a setting of its own for that: leave augment.per_student out, and "
                "set method.own_augmentations."
            )
        method = method._replace(own_augmentations=config.augment.per_student)
    cohort = Cohort(students, tasks, method, config.view_statistics)
    return cohort, Objective(config.objective_weights(method.weights))


def _look_once(student: Student, image_shape: tuple[int, int, int], model: Model) -> StudentShape:
    name, _ = name_and_settings(model)
    try:
        return observe_shapes(student, image_shape)
    except UserError as error:
        raise UserError(f"Model '{name}': {error}") from error
    except Exception as error:  # of a foreign model's own code
        _, height, width = image_shape
        own = " A network of your own may also lack the interface of docs/models.md." if ":" in name else ""
        raise UserError(
            f"Model '{name}' cannot see images of {width} x {height} pixels: {first_line(error)} "
            f"If it is made for others, set data.image_size.{own}"
        ) from error


def _build_task(config: TaskConfig, shape: StudentShape) -> Task:
    task = TASKS[config.name](shape, **config.settings)
    task.fraction = config.fraction
    return task
