"""What an exported graph says of a clip, decoded by its metadata, is what the detector detects."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from desed_task.errors import InputError
from desed_task.evaluation.scores import FrameScores, detect
from desed_task.inference.detection_result import one_clip, result_of
from desed_task.inference.onnx_export import _metadata
from desed_task.postprocess.decoders import KINDS, DecoderSettings
from desed_task.postprocess.event_rules import NO_RULES
from desed_task.postprocess.graph_scores import decode_graph
from tests.desed_task.checkpoints.example_checkpoints import small_spec


@pytest.mark.parametrize("kind", KINDS)
def test_events_of_a_graph_are_those_of_the_detector(kind):
    settings = DecoderSettings(kind=kind, merge_abs={"Dog": 0.4}, threshold=0.3)
    spec = replace(small_spec(), decoder=settings.to_plain())
    draw = np.random.default_rng(0)
    strong = draw.random((2, len(spec.classes), spec.grid.n_frames)).astype(np.float32)
    decoded = decode_graph(strong, _metadata(spec, "student", "crnn"), ["a", "b"])
    rules = NO_RULES.of_classes(spec.classes, 0.5)
    for clip_id, of_clip in zip("ab", strong, strict=True):
        raw = FrameScores(of_clip.T, spec.grid.boundaries_s)
        expected = result_of(raw, spec.decode(one_clip(raw, spec.classes)), 10.0, rules).events
        events = detect(decoded.select([clip_id]), 0.5)
        found = {
            (round(on, 6), round(off, 6), spec.classes[label])
            for on, off, label in zip(
                events.onset_s, events.offset_s, events.label_index, strict=True
            )
        }
        assert found == {(round(e.onset_s, 6), round(e.offset_s, 6), e.label) for e in expected}
        assert found


def test_graphs_of_before_mean_the_median_filters():
    spec = small_spec()
    metadata = _metadata(spec, "student", "crnn")
    strong = np.random.default_rng(1).random((1, len(spec.classes), spec.grid.n_frames))
    now = decode_graph(strong, metadata)
    del metadata["decoder"]
    np.testing.assert_array_equal(decode_graph(strong, metadata).values, now.values)
    assert now.clip_ids == ("0",)


def test_what_is_not_of_a_graph_is_refused():
    spec = small_spec()
    metadata = _metadata(spec, "student", "crnn")
    with pytest.raises(InputError, match=r"scores of shape \(1, 156, \d+\)"):
        decode_graph(np.zeros((1, 156, len(spec.classes))), metadata)
    other = [{"producer": "another program"}, {**metadata, "decoder": "{"}]
    other += [{**metadata, "detector": "[]"}, {**metadata, "decoder": '"boxes"'}]
    for one in other:
        with pytest.raises(InputError):
            decode_graph(np.zeros((1, len(spec.classes), 3)), one)
    assert json.loads(metadata["decoder"])["kind"] == "median"
