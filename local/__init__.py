"""The 2024 recipe: file names, classes, corpora and Lightning around `desed_task`."""

import os

import desed_task  # noqa: F401  first, as it takes care of what is imported afterwards

# Lightning imports torchmetrics, and that imports onnxruntime where librosa is installed, too. When
# onnxruntime is imported, its builds (1.32) write an identifier of the device into the user's home
# folder and report to its makers, unless this variable is 1.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
