"""The form that a submission's authors fill in, and its checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from desed_task.atomic_files import write_text_atomic
from desed_task.errors import InputError, command_name
from desed_task.file_names import looked_up_from
from local.schema.problems import validation_problems
from local.schema.strict import StrictModel
from local.schema.yaml_files import read_yaml

_NAME = r"[^\W_]+(?:-[^\W_]+)*"
LABEL = re.compile(rf"{_NAME}_{_NAME}_task4_[1-4]")

TEMPLATE = """\
# Authors and system of a submission. Fill in every empty field that is not marked optional.
# make_submission.py adds what it knows: results, energy, size of the network.
submission:
  label: # last name of the corresponding author, institute, task and number: Lovelace_AEI_task4_1
  name: # of the system, in words
  abbreviation: # of the name, at most 10 characters
  authors: # in the order of the report; one of them is corresponding
    - lastname:
      firstname:
      email:
      corresponding: true
      affiliation:
        abbreviation:
        institute:
        department: # optional
        location: # town and country

system:
  source_code: # optional: address of the code
  description: # optional: where the system differs from its configuration
    acoustic_features:
    embeddings:
    data_augmentation:
    machine_learning_method:
    semi_supervised_learning:
    ensemble_method_subsystem_count:
    post_processing:
    decision_making:
  external_datasets: # data and models outside the challenge's data: each encoder of embeddings
    - name: BEATs_iter3+ (AS2M), pretrained on AudioSet
      url: https://github.com/microsoft/unilm/tree/master/beats
      total_audio_length: # optional, in minutes
"""


class _Filled(StrictModel):
    """Treat empty text as missing."""

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: None if isinstance(entry, str) and not entry.strip() else entry
            for key, entry in value.items()
        }


class Affiliation(_Filled):
    """Affiliation of an author."""

    abbreviation: str
    institute: str
    department: str | None = None
    location: str


class Author(_Filled):
    """An author of the system."""

    lastname: str
    firstname: str
    email: str = Field(pattern=r"^\S+@\S+$")
    corresponding: bool = False
    affiliation: Affiliation


class Submission(_Filled):
    """Name and authors of the system."""

    label: str
    name: str
    abbreviation: str = Field(max_length=10)
    authors: tuple[Author, ...]

    @field_validator("label")
    @classmethod
    def _form(cls, label: str) -> str:
        if not LABEL.fullmatch(label):
            raise ValueError("write it as Name_Institute_task4_N, N from 1 to 4")
        return label

    @field_validator("label", "name", "abbreviation")
    @classmethod
    def _own_name(cls, text: str) -> str:
        if "baseline" in text.lower():
            raise ValueError(
                "must not contain 'baseline', by the challenge's rules; choose another name"
            )
        return text

    @field_validator("authors")
    @classmethod
    def _one_corresponds(cls, authors: tuple[Author, ...]) -> tuple[Author, ...]:
        if sum(author.corresponding for author in authors) != 1:
            raise ValueError("exactly one author must have corresponding: true")
        return authors


class Description(_Filled):
    """Corrections to `metadata.describe_system`, where the system differs from it."""

    acoustic_features: str | tuple[str, ...] | None = None
    embeddings: str | tuple[str, ...] | None = None
    data_augmentation: str | tuple[str, ...] | None = None
    machine_learning_method: str | tuple[str, ...] | None = None
    semi_supervised_learning: str | None = None
    ensemble_method_subsystem_count: int | None = None
    post_processing: str | None = None
    decision_making: str | None = None


class ExternalDataset(_Filled):
    """External data or model."""

    name: str
    url: str
    total_audio_length: float | None = None
    """Minutes."""


class SystemForm(_Filled):
    """The submitted system."""

    source_code: str | None = None
    description: Description = Description()
    external_datasets: tuple[ExternalDataset, ...] = ()

    @field_validator("description", mode="before")
    @classmethod
    def _nothing_differs(cls, value: Any) -> Any:
        return {} if value is None else value

    @field_validator("external_datasets", mode="before")
    @classmethod
    def _nothing_external(cls, value: Any) -> Any:
        return () if value is None else value


class MetadataForm(_Filled):
    """The form as filled in by the user."""

    submission: Submission
    system: SystemForm = SystemForm()


def write_template(path: Path) -> None:
    """Write the empty form.

    Raises:
        InputError: if the file exists.
    """
    if path.exists():
        raise InputError(f"{path}: exists already; give another path or fill it in")
    write_text_atomic(path, TEMPLATE)


def read_form(path: Path) -> MetadataForm:
    """Read the filled-in form.

    Raises:
        InputError: naming all empty, unknown and invalid fields.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such metadata file{looked_up_from(path)}; "
            f"{command_name('make_submission.py')} --write_metadata writes one to be filled in"
        )
    tree = read_yaml(path)
    problems = [
        f"{path}: {place}: contains a #, from which on the challenge's reader ignores the line"
        for place, text in _texts(tree)
        if "#" in text
    ]
    try:
        form = MetadataForm.model_validate(tree)
    except ValidationError as error:
        problems += [
            f"{path}: {_plain_problem(one)}" for one in validation_problems(error, MetadataForm)
        ]
    if problems:
        raise InputError.collect(problems, most_shown=40)
    return form


def _plain_problem(problem: str) -> str:
    """Format the problem of a field without a value."""
    return f"{problem.partition(':')[0]}: not filled in" if "(value None)" in problem else problem


def _texts(tree: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield place.strip("."), tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(value, f"{place}.{key}")
    elif isinstance(tree, Sequence):
        for index, value in enumerate(tree):
            yield from _texts(value, f"{place}.{index}")
