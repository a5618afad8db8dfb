"""Export a module to an ONNX file that is kept only if its outputs equal PyTorch's."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from desed_task.atomic_files import PathLike, atomic_path
from desed_task.errors import InputError
from desed_task.file_names import is_utf8

Inputs = dict[str, Tensor]  # by the names of the module's arguments, batch first

ONNX_PACKAGES: Final = ("onnx", "onnxruntime", "onnxscript")
ONNX_TOLERANCE: Final = 1e-4  # largest difference of an output from PyTorch's
OPSET: Final = 20  # has every operator that is used: Gelu since 20, STFT and DFT since 17


def check_packages() -> None:
    """Check that the packages for an export are installed.

    Raises:
        InputError: naming those that are missing.
    """
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if missing:
        raise InputError(
            f"an export to ONNX needs {', '.join(missing)}, which this environment lacks; in the "
            "folder of this code, run: pip install --editable '.[export]'"
        )


def write_verified(
    module: nn.Module,
    reference: nn.Module,
    checks: Mapping[str, Inputs],
    metadata: Mapping[str, str],
    target: PathLike,
) -> dict[str, float]:
    """Write `module`, run the file with onnxruntime and keep it if it agrees with `reference`.

    Args:
        module: on the CPU, in eval mode; returns a NamedTuple, whose fields name the outputs.
        reference: module that the file's outputs are compared with.
        checks: kind of input -> inputs. The graph is traced with the first ones, which must be
            more than one clip. All are float32 and on the CPU.
        metadata: stored in the file.
        target: the file; written atomically.

    Returns:
        kind -> largest absolute difference of an output.

    Raises:
        InputError: for missing packages, outputs further than ONNX_TOLERANCE apart, and a target
            whose name is not UTF-8.
    """
    check_packages()
    if not is_utf8(target):
        raise InputError(f"{target}: onnx writes only to paths that are UTF-8; rename or change it")
    with torch.no_grad():
        expected = {kind: reference(*inputs.values()) for kind, inputs in checks.items()}
        example = next(iter(checks.values()))
        outputs = next(iter(expected.values()))._fields
        with atomic_path(target) as temporary:
            _save(module, example, outputs, metadata, temporary)
            found = _run(temporary, checks)
            differences = {
                kind: _largest_difference(expected[kind], found[kind]) for kind in checks
            }
            _refuse_different(differences, Path(target))
    return differences


def _save(
    module: nn.Module,
    example: Inputs,
    outputs: tuple[str, ...],
    metadata: Mapping[str, str],
    path: Path,
) -> None:
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from onnxscript import optimizer

    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            module,
            tuple(example.values()),
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes=tuple({0: batch} for _ in example),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            # Its rewriter mistakes the scaler's 1e-8 for the 0 of "x + 0" and drops it, so that
            # silence is scaled to NaN.
            optimize=False,
        )
        assert program is not None  # as no file was named
        optimizer.inline(program.model)
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    # Each node names the source files it was traced in; such paths are private.
    ClearMetadataAndDocStringPass()(program.model)
    program.model.metadata_props.clear()
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's warnings about its internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _onnxruntime() -> Any:
    """The package, without its telemetry, which is on by default.

    The variable keeps it from writing an identifier of the device into the home folder when it is
    imported; the call turns off that of Windows, which does not read the variable.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def _run(path: Path, checks: Mapping[str, Inputs]) -> dict[str, list[Tensor]]:
    """The outputs of the file, by kind of input."""
    import onnx

    onnxruntime = _onnxruntime()
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return {
        kind: [
            torch.from_numpy(output)
            for output in session.run(None, {name: x.numpy() for name, x in inputs.items()})
        ]
        for kind, inputs in checks.items()
    }


def _largest_difference(expected: tuple[Tensor, ...], found: list[Tensor]) -> float:
    """Largest absolute difference; infinite for another shape, NaN where one of them is."""
    if [wanted.shape for wanted in expected] != [output.shape for output in found]:
        return float("inf")
    pairs = zip(expected, found, strict=True)
    return float(torch.stack([(wanted - output).abs().max() for wanted, output in pairs]).max())


def _refuse_different(differences: Mapping[str, float], target: Path) -> None:
    # Written so that NaN counts as a difference.
    wrong = [
        f"{apart:.2g} on {kind}"
        for kind, apart in differences.items()
        if not apart <= ONNX_TOLERANCE
    ]
    if wrong:
        raise InputError(
            f"{target}: not kept, as its outputs differ from PyTorch's by {', '.join(wrong)} (at "
            f"most {ONNX_TOLERANCE:g} is allowed); it was made with torch {torch.__version__} and "
            f"run with onnxruntime {_onnxruntime().__version__}: try other versions"
        )
