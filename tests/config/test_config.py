"""Reading configurations: shorthands, overrides, and every way to get them wrong."""

from pathlib import Path

import pytest
import yaml

from codistill.config.recipe import load_config
from codistill.config.resolve import check_settings
from codistill.config.schema import RunConfig, make_config
from codistill.core.objective import Ramp
from codistill.errors import UserError
from codistill.storage.yaml import read_yaml
from codistill.training.build_cohort import build_cohort


def test_nothing_at_all_is_a_complete_configuration() -> None:
    config = load_config()
    assert config.students == {"resnet8_1": "resnet8", "resnet8_2": "resnet8"}
    assert (config.tasks, config.method.name, config.peers) == ("auto", "auto", "auto")
    assert config.data.name == "digits"
    assert make_config(read_yaml(config.to_yaml())) == config


def test_one_model_leaves_the_number_of_students_open_and_a_list_or_mapping_does_not() -> None:
    assert load_config(None, ["students=resnet20"]).peers == "auto"
    assert load_config(None, ["students=[resnet20]"]).peers is None
    assert load_config(None, ["students={a: resnet20}"]).peers is None
    assert load_config(None, ["students=resnet20", "peers=null"]).peers is None


def test_students_of_the_command_line_are_not_left_open_by_the_recipe_below_them(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(load_config(None, ["students=resnet20"]).to_yaml())
    assert load_config(tmp_path / "recipe.yaml").peers == "auto"
    config = load_config(tmp_path / "recipe.yaml", ["students=[resnet8,resnet20]"])
    assert (list(config.students), config.peers) == (["resnet8", "resnet20"], None)


def test_what_is_written_reads_back_equal() -> None:
    given = ["students={a: resnet8, b: resnet20}", "tasks=[[rotation,supcon],none]", "method=dml", "method.ramp=0.3"]
    config = load_config(None, [*given, "weights={'a/*_kl': {weight: 2, over: 0.1}, 'b/ce': 0.5}"])
    assert make_config(yaml.safe_load(config.to_yaml())) == config
    assert config.weights["a/*_kl"] == Ramp(2.0, 0.1)


def test_what_two_students_share_is_written_out_for_each() -> None:
    shared = {"name": "coarse", "superclasses": [0, 0, 1]}
    config = make_config({"tasks": [shared, shared]})
    assert make_config(read_yaml(config.to_yaml())) == config  # aliases would not be read


def test_a_recipe_may_be_empty_or_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("")
    assert load_config(recipe) == load_config()
    recipe.write_text("# nothing but a comment\n")
    assert load_config(recipe) == load_config()
    recipe.write_text("epochs: 7\n", encoding="utf-8-sig")
    assert load_config(recipe).epochs == 7


def test_overrides_win_over_the_recipe_and_the_last_one_over_all(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epochs: 7\noptimizer: {lr: 0.3}\ndata: {image_size: 16}\n")
    config = load_config(recipe, ["optimizer.lr=0.05", "seed=3", "seed=4", "data=somewhere"])
    assert (config.epochs, config.optimizer.lr, config.seed) == (7, 0.05, 4)
    assert (config.data.name, config.data.image_size) == ("somewhere", 16)


def test_another_method_starts_over_from_its_own_settings(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("method: {name: collaborative, heads: 2}\n")
    assert load_config(recipe, ["method.heads=8"]).method.settings["heads"] == 8
    assert load_config(recipe, ["method=dml"]).method.settings == {"temperature": 1.0, "ramp": 0.0}


def test_one_task_is_for_all_students_and_none_is_for_nobody() -> None:
    def names(*overrides: str) -> list[list[str]]:
        return [[task.name for task in own] for own in load_config(None, overrides).tasks]

    assert names("tasks=rotation") == [["rotation"], ["rotation"]]
    assert names("tasks=none") == names("tasks=[]") == [[], []]
    assert names("tasks=[none, supcon]") == [[], ["supcon"]]


def test_a_task_takes_settings_a_weight_and_a_fraction_of_the_batch() -> None:
    given = "tasks=[{name: rotation, hierarchical: false, weight: 0.5, fraction: 0.75}, supcon]"
    config = load_config(None, [given])
    (own,), (plain,) = config.tasks
    assert own.settings == {"hierarchical": False}
    assert (own.weight, own.fraction) == (0.5, 0.75)
    assert (plain.weight, plain.fraction) == (0.1, 1.0)
    assert make_config(yaml.safe_load(config.to_yaml())) == config


def test_a_tasks_fraction_reaches_the_cohort_before_it_counts_its_views() -> None:
    config = load_config(None, ["method=dml", "tasks=[{name: rotation, fraction: 0.5}, none]"])
    cohort, _ = build_cohort(config, (3, 16, 16), num_classes=5)
    assert cohort.views_of["resnet8_1"] == {"clean": 1.0, "rot90": 0.5, "rot180": 0.5, "rot270": 0.5}


def test_jigsaw_and_rotation_are_on_a_quarter_of_the_batch_unless_told_and_other_tasks_on_all_of_it() -> None:
    (jigsaw, rotation), (colour,) = load_config(None, ["tasks=[[jigsaw, rotation], colour]"]).tasks
    assert (jigsaw.fraction, rotation.fraction, colour.fraction) == (0.25, 0.25, 1.0)
    assert load_config(None, ["tasks=jigsaw"]).tasks[0][0] == jigsaw


def test_equal_models_are_numbered_and_others_keep_their_name() -> None:
    students = load_config(None, ["students=[resnet8,resnet20,resnet8]", "tasks=none"]).students
    assert students == {"resnet8_1": "resnet8", "resnet20": "resnet20", "resnet8_2": "resnet8"}


def test_students_may_be_of_timm_or_ones_own_with_settings_and_are_written_as_they_are_read() -> None:
    given = "[{name: timm/resnet18.a1_in1k, pretrained: true, drop_path_rate: 0.1},'nets.small:Make',{name: wrn_16_2}]"
    config = load_config(None, [f"students={given}", "tasks=none"])
    assert config.students == {
        "resnet18_a1_in1k": {"name": "timm/resnet18.a1_in1k", "pretrained": True, "drop_path_rate": 0.1},
        "nets_small_Make": "nets.small:Make",
        "wrn_16_2": {"name": "wrn_16_2", "dropout": 0.0},
    }
    assert make_config(read_yaml(config.to_yaml())) == config
    changed = load_config(None, ["students={a: timm/resnet18,b: resnet8}", "students.a.pretrained=true"])
    assert changed.students["a"] == {"name": "timm/resnet18", "pretrained": True}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=dmll", r"Unknown method 'dmll'. Did you mean 'dml'\? Choices: independent, dml, kdcl"),
        ("tasks=[rotaton,supcon]", r"Unknown task 'rotaton'. Did you mean 'rotation'\?"),
        ("students=[resnet8,resnt20]", r"Unknown model 'resnt20'. Did you mean 'resnet20'\?"),
        ("optimiser.lr=1", r"Unknown key 'optimiser.lr'. Did you mean 'optimizer.lr'\?"),
        ("optimizer.learning=1", "Unknown key 'optimizer.learning'.*optimizer.lr"),
        ("optimizer=3", "optimizer should be a mapping with keys among name, lr"),
        ("optimizer=adam", r"optimizer.name should be 'sgd' or 'adamw' \(got 'adam'\)"),
        ("optimizer={name: adamw, nesterov: true}", "optimizer.nesterov=true is of sgd.*starts over with the defaults"),
        ("optimizer.beta2=0.9", "optimizer.beta2=0.9 is of adamw, not of sgd"),
        ("optimizer.lr_factors={resnet8_1: yes}", "optimizer.lr_factors should be numbers, not yes or no"),
        ("optimizer.lr_factors={resnet8_3: 2}", "Unknown student in optimizer.lr_factors 'resnet8_3'"),
        ("optimizer.lr_factors={resnet8_1: 0}", "greater than 0"),
        ("optimizer.lr=-1", r"optimizer.lr should be greater than 0 \(got -1\)"),
        ("optimizer.lr=fast", "optimizer.lr should be a valid number"),
        ("method.temprature=3", r"setting of method 'collaborative' 'temprature'. Did you mean 'temperature'\?"),
        ("method={name: dml, temperature: hot}", "In method 'dml': temperature should be a valid number"),
        ("tasks=[{name: supcon, tau: 1}, none]", "setting of task 'supcon' 'tau'"),
        ("tasks=[{name: supcon, fraction: 0}, none]", r"fraction should be greater than 0 \(got 0\)"),
        ("tasks=[{name: supcon, fraction: 1.5}, none]", "fraction should be less than or equal to 1"),
        ("tasks=[{name: jigsaw, grid: 4}, none]", "In task 'jigsaw': grid should be 2 or 3"),
        ("tasks=[rotation,supcon,supcon]", "3 tasks for 2 students"),
        ("tasks=[[rotation,rotation],none]", "has the same task twice"),
        ("students=[]", "A cohort needs a student, got none"),
        ("students={half: resnet8, b: resnet8}", "'half' cannot name a student: PyTorch's modules use it"),
        ("students={a/b: resnet8, c: resnet8}", "may not be empty or contain"),
        ("students={..: resnet8, c: resnet8}", "may not be empty or contain"),
        ("students={/etc/passwd: resnet8, c: resnet8}", "may not be empty or contain"),
        ("students={'a\\b': resnet8, c: resnet8}", "may not be empty or contain"),
        ('students={"a\\0": resnet8, c: resnet8}', "should be printable"),
        ('students={"\\ud800": resnet8, c: resnet8}', "should be printable"),
        (f"students={{{'ä' * 101}: resnet8, c: resnet8}}", "have at most 200 bytes"),
        ("students={a: resnet8, A: resnet8}", "differ in more than case, got a, A: they name files"),
        ("run=/somewhere/else", "Unknown key 'run'"),
        ("students=3", "students should be a model, a list of models or a mapping name: model, got 3"),
        ("peers=2", r"peers should be 'auto' \(got 2\)"),
        ("epochs", "not of the form key=value"),
        ("epochs=[", "not valid YAML"),
        ("method.heads=0", "In method 'collaborative': heads should be greater than 0"),
        ("tasks=[{name: supcon, temperature: 0}, none]", "temperature should be greater than 0"),
        ("tasks=[{name: supcon, weight: -1}, none]", "weight should be greater than or equal to 0"),
        ("weights={'*/ce': .nan}", "weights"),
        ('weights={"\\ud800": 1}', "weights should name losses in printable characters"),
        ("optimizer.warmup_epochs=.inf", "optimizer.warmup_epochs should be a finite number"),
        ("optimizer.momentum=0", "does not go with Nesterov"),
        ("students={a: {x: 1}, b: resnet8}", "a mapping with .name., got .*x.: 1"),
        ("method={name: dml, 3: 4}", "setting of method 'dml' '3'"),
        ("epochs.foo=1", "epochs should be a valid integer"),
        ("seed=99999999999999999999", "seed should be less than"),
        ("data.validation=1", "data.validation should be less than 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(None, [override])
    assert "Value error" not in str(caught.value)  # pydantic's own wrapping


def test_one_student_has_no_method_by_which_students_teach_each_other() -> None:
    with pytest.raises(UserError, match=r"With method=dml students teach each other, but there is one: resnet8\."):
        load_config(None, ["students=[resnet8]", "method=dml"])
    assert load_config(None, ["students=[resnet8]", "method=independent"]).students == {"resnet8": "resnet8"}


def test_a_recipe_that_is_missing_or_no_mapping_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'.*nowhere.yaml' does not exist"):
        load_config(tmp_path / "nowhere.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="should hold keys and values, holds a list"):
        load_config(tmp_path / "list.yaml")


def test_the_users_last_pattern_wins_also_where_the_method_has_it_first() -> None:
    config = make_config({"tasks": "none", "weights": {"*_kl": 0.0, "*/cpm_kl": 1.0}})
    table = config.objective_weights({"*/ce": 1.0, "*/cpm_kl": Ramp(1.0, 0.3), "*/peers_kl": 1.0})
    assert list(table)[-2:] == ["*_kl", "*/cpm_kl"]
    assert table["*/cpm_kl"] == 1.0


def test_a_users_weight_is_an_exception_to_the_methods_rule() -> None:
    config = make_config({"tasks": "none", "weights": {"resnet8_1/cpm_kl": 0}})
    table = config.objective_weights({"*/cpm_kl": 1.0})
    assert list(table)[-1] == "resnet8_1/cpm_kl"
    assert isinstance(config, RunConfig)


def test_a_setting_without_a_default_or_a_type_is_asked_for_or_taken_as_it_is() -> None:
    def make(shapes: object, *, needed: int, untyped=2) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(UserError, match="In method 'mine': needed Field required"):
        check_settings(make, {}, "method 'mine'")
    assert check_settings(make, {"needed": 3}, "method 'mine'") == {"needed": 3, "untyped": 2}


def test_a_name_that_is_a_day_stays_a_name() -> None:
    assert read_yaml("2026-01-31") == "2026-01-31"
