"""Sound event detection in recordings with a trained checkpoint, and its ONNX export."""

from desed_task.inference.detector import SoundEventDetector as SoundEventDetector
from desed_task.inference.tuned_values import TunedValues as TunedValues
from desed_task.postprocess.event_rules import EventRules as EventRules
