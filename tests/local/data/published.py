"""The corpora of the published task, by name, for tests of what goes on with them."""

from __future__ import annotations

from local.config import load_config

CONFIG = load_config("confs/pretrained.yaml")
TASK = CONFIG.detection_task
VOCABULARY = TASK.vocabulary
SEGMENTS = TASK.part("test", "segments").classes


def corpus(name, config=CONFIG):
    """A corpus, with the paths of a configuration."""
    return config.detection_task.corpus(name)


def number(name):
    """What rows of a corpus have as their source."""
    return TASK.corpus(name).number


def scored(name):
    """What is scored of a corpus in a test."""
    return next(part for part in TASK.test if part.corpus.name == name)
