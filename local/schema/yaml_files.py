"""Read YAML files strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from desed_task.atomic_files import read_text
from desed_task.errors import InputError


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file without duplicate keys.

    Raises:
        InputError: the file is not valid YAML, has a duplicate key or an unknown encoding.
    """
    try:
        return yaml.load(read_text(path), UniqueKeysLoader)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as YAML: {reason}") from None


class UniqueKeysLoader(yaml.SafeLoader):
    """Rejects duplicate keys in a mapping, of which PyYAML silently uses the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node.

        Raises:
            YAMLError: a key occurs twice.
        """
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(
                    f"{key.value!r} appears in line {lines[key.value]} and again in line {line}; "
                    "keep one of them"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)
