"""From scores to events: decoders (median filter, event boxes) and thresholds."""

from desed_task.postprocess.event_boxes import EventBox as EventBox
from desed_task.postprocess.event_boxes import event_boxes as event_boxes
from desed_task.postprocess.median_filter import ClassMedianFilter as ClassMedianFilter
from desed_task.postprocess.thresholds import DEFAULT_THRESHOLD as DEFAULT_THRESHOLD
from desed_task.postprocess.thresholds import Threshold as Threshold
from desed_task.postprocess.thresholds import class_thresholds as class_thresholds
