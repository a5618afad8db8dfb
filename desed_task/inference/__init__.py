"""Sound event detection in recordings with a trained checkpoint, and its ONNX export."""

from desed_task.inference.detector import SoundEventDetector as SoundEventDetector
