"""YAML read so that it cannot mean something else than it seems to: what recipes, overrides and run folders hold.

PyYAML's safe loader runs no code, but it keeps the last of two equal keys, reads 010 as 8, 1:30 as 90, 1:30.5 as 90.5
and {a:b} as a key without a value, and lets nine short lines of aliases stand for a billion values. Here each of these
is an error. And 2026-01-31, of which it makes a day, stays the words that it is: a folder may be called so.
"""

import re
from typing import Any

import yaml

_PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


def read_yaml(text: str | bytes) -> Any:
    """Plain data. Raises ValueError, in one line that names the line and the culprit."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        hint = ". Indent with spaces, not with tabs" if "'\\t'" in str(error.problem) else ""
        raise ValueError(f"{where}{error.problem}{hint}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # the last ones: a tag like !!bool maybe
        raise ValueError(" ".join(str(error).split())) from error


class _StrictLoader(yaml.SafeLoader):
    """The safe loader without what can be misread."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise _error(f"aliases are not read. Write out what *{event.anchor} stands for", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, value_node in node.value:
            _check_space_after_colon(key_node, value_node)
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                raise _error(f"the key '{key}' is there twice. Keep one", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_plain_number(self, node: yaml.ScalarNode) -> int:
        number = self.construct_yaml_int(node)
        if not _PLAIN_NUMBER.fullmatch(node.value):
            raise _error(f"{node.value} would be read as {number}. Write {number}, or quote a word", node.start_mark)
        return int(number)

    def construct_plain_fraction(self, node: yaml.ScalarNode) -> float:
        number = self.construct_yaml_float(node)
        if ":" in node.value:  # in base 60
            raise _error(f"{node.value} would be read as {number}. Write {number}, or quote a word", node.start_mark)
        return float(number)

    def construct_words(self, node: yaml.ScalarNode) -> str:
        return str(node.value)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_plain_number)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_plain_fraction)
_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _StrictLoader.construct_words)


def _check_space_after_colon(key: yaml.Node, value: yaml.Node) -> None:
    """``{small:resnet8}`` is one word to YAML, a key with nothing behind it."""
    if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
        return
    if not key.style and not value.style and value.value == "" and ":" in key.value:
        before, _, after = key.value.partition(":")
        raise _error(f"{key.value} has no space after its colon. Write {before}: {after}", key.start_mark)


def _error(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
