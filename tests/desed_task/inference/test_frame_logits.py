"""What checkpoints that share an encoder take of it."""

from __future__ import annotations

from types import SimpleNamespace

from desed_task.inference.frame_logits import JointLogits


def test_stored_embeddings_of_a_shared_encoder_are_asked_for_once() -> None:
    """Two checkpoints take the frames of encoder 0, one its global embedding, one none."""
    kinds = ("frame", "global", "frame", "frame")
    scorers = [SimpleNamespace(spec=SimpleNamespace(net={"embedding_type": one})) for one in kinds]
    joint = JointLogits.__new__(JointLogits)
    joint.scorers, joint._encoder_of = scorers, [0, 0, 0, None]
    assert joint.kinds(0) == ["frame", "global"]
    assert joint.kinds(1) == []
