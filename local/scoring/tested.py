"""The checkpoints of a test or evaluation: one file, or several whose scores are averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from desed_task.atomic_files import sha256_of

# Of results.json and run.yaml, where there are several checkpoints.
ENSEMBLE: Final = "ensemble"
# Facts of a member that results.json has, too.
_IN_RESULTS: Final = ("seed", "encoders")


def ensemble_sha256(members: Sequence[str]) -> str:
    """What identifies an ensemble: SHA-256 of those of its members, whatever their order."""
    return hashlib.sha256("\n".join(sorted(members)).encode()).hexdigest()


@dataclass(frozen=True)
class TestedFiles:
    """The checkpoint of a test or evaluation, or those whose scores are averaged.

    Attributes:
        paths: the files; one at least.
        facts: of several, what run.yaml says of each besides: `seed` of its training,
            `training_revision`, `encoders` (name, file, n_blocks) and `network`
            (`local.training.macs.Macs`).
    """

    paths: tuple[Path, ...]
    facts: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)

    # Not a test of pytest's.
    __test__ = False

    @property
    def is_ensemble(self) -> bool:
        """Whether scores of several checkpoints are averaged."""
        return len(self.paths) > 1

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each file."""
        return tuple(map(sha256_of, self.paths))

    @property
    def sha256(self) -> str:
        """What identifies them; of one file its SHA-256."""
        return ensemble_sha256(self.digests) if self.is_ensemble else self.digests[0]

    @property
    def name(self) -> str:
        """Names of the files; of several, in the order of their SHA-256."""
        if not self.is_ensemble:
            return self.paths[0].name
        return ", ".join(
            path.name for _, path in sorted(zip(self.digests, self.paths, strict=True))
        )

    def trained_in(self, folder: Path) -> bool:
        """Whether they lie in a run folder, whose configuration is that of their training."""
        return all(folder.resolve() in path.resolve().parents for path in self.paths)

    def conditions(self) -> dict[str, Any]:
        """For results.json, the members of an ensemble, by SHA-256; empty for one file."""
        if not self.is_ensemble:
            return {}
        members = [
            {
                "checkpoint": path.name,
                "checkpoint_sha256": sha256,
                **{key: _plain_fact(key, facts) for key in _IN_RESULTS if key in facts},
            }
            for sha256, path, facts in zip(self.digests, self.paths, self.facts, strict=True)
        ]
        return {ENSEMBLE: sorted(members, key=lambda one: str(one["checkpoint_sha256"]))}

    def record(self) -> dict[str, Any]:
        """For run.yaml: `checkpoint`, or `ensemble` with its `checkpoints` in the given order."""
        files = [
            {"path": str(path.resolve()), "sha256": sha256}
            for path, sha256 in zip(self.paths, self.digests, strict=True)
        ]
        if not self.is_ensemble:
            return {"checkpoint": files[0]}
        members = [{**one, **facts} for one, facts in zip(files, self.facts, strict=True)]
        return {ENSEMBLE: {"sha256": self.sha256, "checkpoints": members}}

    @property
    def cost(self) -> dict[str, Any] | None:
        """Operations and parameters of the networks of all; None for one file."""
        if not self.is_ensemble:
            return None
        each = [facts["network"] for facts in self.facts]
        sums = {key: sum(one[key] for one in each) for key in ("macs", "parameters")}
        return {**sums, "clip_s": each[0]["clip_s"]}


def _plain_fact(key: str, facts: Mapping[str, Any]) -> Any:
    """A fact without paths, in which equal runs may differ."""
    return [one["name"] for one in facts[key]] if key == "encoders" else facts[key]


def tested_by(module: Any) -> TestedFiles | None:
    """What a Lightning module tests or evaluates; None in training.

    Each file is hashed once, as the module keeps the same object.
    """
    tested: TestedFiles | None = module.tested_checkpoint
    return tested
