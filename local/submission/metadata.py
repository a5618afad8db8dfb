"""Compose the metadata file of a submission from the authors' form and the runs.

Its sections (submission, system, results) and terms are those of the DCASE 2024 challenge.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from desed_task.postprocess.decoders import BOXES, MEDIAN, THRESHOLD_BOXES
from local.config import RecipeConfig
from local.submission.encoders import EncoderCost, plain_costs, titles
from local.submission.file_checks import REPORTED_METRICS, energy_kwh
from local.submission.metadata_form import MetadataForm
from local.submission.submitted_runs import SubmittedRun

# Kind of a decoder -> how the metadata file describes it.
POST_PROCESSING = {
    MEDIAN: "median filter with a length per class",
    BOXES: "change-point event boxes (cSEBBs), segments of MAESTRO's classes from a median filter "
    "with a length per class",
    THRESHOLD_BOXES: "event boxes above a threshold, after a median filter with a length per class",
}


def compose_metadata(
    form: MetadataForm,
    runs: Sequence[SubmittedRun],
    *,
    role: str,
    encoders: Sequence[EncoderCost],
    baseline: Mapping[str, Path],
) -> dict[str, Any]:
    """Return the metadata file as plain values.

    Args:
        form: the authors' form.
        runs: checked runs of the system.
        role: the network whose scores are submitted.
        encoders: of the embeddings; none without.
        baseline: stage -> codecarbon's table of the baseline on the same machine; may be empty.
    """
    filled = form.model_dump(mode="json")
    told = form.system.description.model_dump(mode="json", exclude_none=True)
    network = runs[0].network
    return {
        "submission": filled["submission"],
        "system": {
            "description": {**_description(runs[0]), **told},
            "complexity": {
                "total_parameters": network.parameters + sum(one.parameters for one in encoders),
                "network_parameters": network.parameters,
                "macs": network.macs,
                "total_macs": network.macs + sum(one.macs for one in encoders),
                "macs_of_seconds": network.clip_s,
                "encoders": plain_costs(encoders) or None,
                "energy_consumption": _energy(runs, baseline),
            },
            "external_datasets": filled["system"]["external_datasets"],
            "source_code": filled["system"]["source_code"],
        },
        "results": {
            "model": role,
            "runs": [
                {
                    "seed": run.seeds[0] if len(run.seeds) == 1 else list(run.seeds),
                    "checkpoint_sha256": run.sha256,
                    **_checkpoints(run),
                    "clips": len(run.clips),
                }
                for run in runs
            ],
            "versions": runs[0].results["versions"],
            "devtest": {
                corpus: _with_deviation(
                    {
                        name: [run.results["metrics"][f"test/{role}/{metric}"] for run in runs]
                        for name, metric in metrics.items()
                    }
                )
                for corpus, metrics in REPORTED_METRICS.items()
            },
        },
    }


def _checkpoints(run: SubmittedRun) -> dict[str, Any]:
    """The checkpoints whose scores are averaged; nothing for a single one."""
    several = len(run.trainings) > 1
    return {"checkpoints_sha256": [one.sha256 for one in run.trainings]} if several else {}


def _description(run: SubmittedRun) -> dict[str, Any]:
    """A run's system; of several networks, what any of them has, and their number."""
    each = [describe_system(one.config) for one in run.trainings]
    found = describe_system(run.config)
    if len(each) == 1:
        return found
    for key in ("embeddings", "data_augmentation"):
        named = [one[key] if isinstance(one[key], list) else [one[key]] for one in each]
        values = dict.fromkeys(value for values in named for value in values if value is not None)
        found[key] = next(iter(values)) if key == "embeddings" and len(values) == 1 else [*values]
        found[key] = found[key] or None
    learnt = dict.fromkeys(
        part for one in each for part in one["semi_supervised_learning"].split(", ")
    )
    found["semi_supervised_learning"] = ", ".join(learnt)
    found["ensemble_method_subsystem_count"] = len(each)
    found["decision_making"] = "mean of the scores"
    return found


def describe_system(config: RecipeConfig) -> dict[str, Any]:
    """Describe a configuration in the challenge's terms."""
    net, training = config.net, config.training
    augmentation = {
        f"mixup ({training.mixup} labels)": training.mixup is not None,
        "time dropping": net.dropstep_recurrent > 0,
        "time masking": net.specaugm_t_p > 0,
        "frequency masking": net.specaugm_f_p > 0,
        **dict.fromkeys(config.augment.used, True),
    }
    semi_supervised = {
        "mean teacher": True,
        "interpolation consistency": training.consistency == "ict",
        "pseudo-labels": config.losses.pseudo > 0,
    }
    return {
        "input_sampling_rate": config.feats.sample_rate / 1000,  # kHz
        "acoustic_features": "log-mel energies",
        "embeddings": titles(config) if net.use_embeddings else None,
        "data_augmentation": [name for name, used in augmentation.items() if used] or None,
        "machine_learning_method": "CRNN",
        "semi_supervised_learning": ", ".join(
            name for name, used in semi_supervised.items() if used
        ),
        "ensemble_method_subsystem_count": None,
        "post_processing": POST_PROCESSING[config.decoder.kind],
        "decision_making": None,  # the submission has scores, not decisions
    }


def _energy(runs: Sequence[SubmittedRun], baseline: Mapping[str, Path]) -> dict[str, Any]:
    """Energy in kWh of each stage, and of the baseline on the same machine."""
    stages = {
        stage: [sum(map(energy_kwh, run.energy[stage])) for run in runs]
        for stage in ("training", "test")
    }
    found: dict[str, Any] = {"unit": "kWh", **_with_deviation(stages)}
    found["baseline"] = {stage: energy_kwh(path) for stage, path in baseline.items()} or None
    return found


def _with_deviation(values: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    """Return `name`, the mean, and `name_std`, the sample deviation; None for a single run."""
    found: dict[str, float | None] = {}
    for name, sample in values.items():
        found[name] = float(statistics.fmean(sample))
        found[f"{name}_std"] = float(statistics.stdev(sample)) if len(sample) > 1 else None
    return found
