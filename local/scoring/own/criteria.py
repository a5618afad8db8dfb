"""Criteria and names that the metrics of a test share."""

from __future__ import annotations

INTERSECTION = {"dtc": 0.5, "gtc": 0.5}
COLLAR = {"onset_collar_s": 0.2, "offset_collar_s": 0.2, "offset_collar_rate": 0.2}
F1_THRESHOLD = 0.5
MAX_FPR = 0.1
# Package in the names of the metrics that are defined in docs/metrics.md, and the version of these
# definitions: increased whenever one would give another value.
OWN, OWN_VERSION = "desed_task", "1"
# The decoders of piPSDS: median filters of so many frames, and the configured decoder.
PI_LENGTHS = (1, 3, 5, 7, 11, 15, 21, 31)


def is_own(name: str) -> bool:
    """Whether a metric, by its name with or without stage and network, is one of these."""
    return name.endswith(f"/{OWN}")


def is_of_group(name: str) -> bool:
    """Whether a metric is that of a group of clips (`local.scoring.own.groups`)."""
    return is_own(name) and "[" in name


def is_oracle(name: str) -> bool:
    """Whether a metric's thresholds are chosen on the clips that it scores."""
    return "_oracle" in name or "_thresopt" in name


def is_shifted(name: str) -> bool:
    """Whether resampled values of a metric are lower for a reason that new clips would not have.

    A clip that is drawn twice raises recall by two events at once. Recalls in between are then
    those of lower thresholds only, where precision is low, and count in average precision.
    """
    return is_own(name) and any(f"{kind}_map" in name for kind in ("intersection", "collar"))


def is_tuned(name: str) -> bool:
    """Whether a metric is one at tuned thresholds, which not every configuration has."""
    return is_own(name) and ("_tuned/" in name or "_tuned_oracle/" in name)


def is_share(name: str) -> bool:
    """Whether a metric lies in [0, 1]; the others are in seconds, per hour or per kWh, or rates of
    errors."""
    units = ("error_s", "error_rate", "per_hour", "_energy_")
    return not (is_own(name) and any(unit in name for unit in units))
