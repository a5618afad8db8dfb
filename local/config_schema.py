"""Schema of the configuration: every key with its type, published value and constraints.

The string below a field documents it. `local.config` loads and validates files.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from desed_task.errors import count_of
from local.schema.published_keys import PublishedPaths, PublishedTraining
from local.schema.strict import StrictModel


class Training(PublishedTraining):
    """Schedule, batches, losses and the metric that the best checkpoint is chosen by."""

    batch_size: tuple[NonNegativeInt, ...] | None = None
    """Rows per batch of each corpus of the task that has rows, in its order, 0 to leave one out;
    null: as the task says."""
    batch_scope: Literal["total", "process"] = "total"
    """Whether these are the rows of all processes together, or of each process."""
    batch_size_val: PositiveInt = 24
    const_max: float = Field(default=2.0, ge=0)
    """Final weight of the consistency loss."""
    n_epochs_warmup: int = Field(default=50, ge=0)
    epoch_decay: int = Field(default=100, ge=0)
    """Epoch at which the learning rate starts to fall and the consistency weight is full; from
    n_epochs on, neither happens."""
    n_epochs: PositiveInt = 300
    early_stop_patience: PositiveInt = 200
    """Training ends after this many validations (one every `validation_interval` epochs) without a
    better val/obj_metric."""
    num_workers: int = Field(default=6, ge=0)
    accumulate_batches: PositiveInt = 1
    gradient_clip: float = Field(default=5.0, ge=0)
    """Largest norm of the gradient; 0 turns clipping off."""
    n_test_thresholds: PositiveInt = 50
    ema_factor: float = Field(default=0.999, ge=0, lt=1)
    self_sup_loss: Literal["mse", "bce"] = "mse"
    validation_interval: PositiveInt = 10
    """Epochs from one validation to the next."""
    seed: int = Field(default=42, ge=0)
    deterministic: bool = False
    precision: Literal[32, 16, "32", "tf32", "16", "bf16", "16-mixed", "bf16-mixed", "32-true"] = 32
    """tf32: as 32, but a GPU multiplies matrices with 10 mantissa bits. With 32, convolutions do so
    too: it is PyTorch's default, with which the published results were computed."""
    mixup: Literal["soft", "hard"] | None = "soft"
    mixup_prob: float = Field(default=0.5, ge=0, le=1)
    mixup_draw: Literal["joint", "independent"] = "independent"
    """joint: one permutation and weight for features, embeddings and labels; independent, as
    published: a second draw for the embeddings, and labels mixed by both."""
    consistency: Literal["mean_teacher", "ict"] = "mean_teacher"
    """What the student is compared with: the teacher's scores of the same input, or, in steps that
    `augment.mixup_prob` mixes, its interpolated scores of the unmixed input."""
    pseudo_labels: str | None = None
    """Folder of pseudo-labels (extract_embeddings.py --pseudo_labels)."""
    enable_progress_bar: bool = True

    @model_validator(mode="after")
    def _warm_up_ends_in_time(self) -> Training:
        if not self.n_epochs_warmup <= min(self.epoch_decay, self.n_epochs):
            raise ValueError(
                f"n_epochs_warmup ({self.n_epochs_warmup}) is more than epoch_decay "
                f"({self.epoch_decay}) or n_epochs ({self.n_epochs}); lower it"
            )
        if self.validation_interval > self.n_epochs:
            raise ValueError(
                f"validation_interval ({self.validation_interval}) is more than n_epochs "
                f"({self.n_epochs}): no checkpoint would ever be the best; lower it"
            )
        return self

    @model_validator(mode="after")
    def _every_epoch_is_validated(self) -> Training:
        unseen = self.n_epochs % self.validation_interval
        if unseen:
            warnings.warn(
                f"training.validation_interval ({self.validation_interval}) does not divide "
                f"n_epochs ({self.n_epochs}): the last "
                f"{count_of(unseen, 'epoch is', 'epochs are')} never validated, so they cannot "
                "be the best",
                UserWarning,
                stacklevel=2,
            )
        return self


class ScalerConfig(StrictModel):
    """How log-mel values are scaled."""

    statistic: Literal["instance", "dataset"] = "instance"
    normtype: Literal["minmax", "standard", "mean"] = "minmax"
    dims: tuple[Literal[1, 2], ...] = (1, 2)
    """Axes that share a statistic: 1 the mel bands, 2 the frames; each once."""
    savepath: str = "./scaler.ckpt"
    """File of the fitted statistics (statistic: dataset)."""


class ClipColumn(StrictModel):
    """A column of a table with one row per clip, or with one value in all rows of a clip."""

    table: str
    column: str = Field(min_length=1)


class Data(PublishedPaths):
    """Folders and tables; a `*_44k` folder holds what was downloaded, its sibling 16 kHz audio."""

    audio_max_len: float = Field(default=10.0, gt=0)
    """Length of a training clip in seconds."""
    fs: PositiveInt = 16000
    net_subsample: PositiveInt = 4
    """STFT hops averaged into one frame of the network's output."""
    keep_clips_without_events: tuple[str, ...] = ()
    """Corpora whose clips without events (rows without onset, offset and label) are used: as
    negative examples in training, and scored in tests. Those of other corpora are left out, as
    published; only the hours in psds_eval's rates include them."""
    test_groups: ClipColumn | None = None
    """Groups of the clips whose events a test scores, for PSDS by group: a column of a table;
    null: none."""
    packed_dir: str | None = None
    """Folder of packed sets, which a run writes if they are missing or WAV files or embeddings have
    changed; null reads WAV files and embeddings directly."""
    packed_dtype: Literal["float32", "float16"] = "float32"
    """Type of packed embeddings; float16 takes half the space but rounds the values."""
    resident: Literal["auto", "gpu", "ram", "disk"] = "auto"
    """Where packed sets are kept during a run. auto: the first of GPU, memory and disk with enough
    room; `training.num_workers` processes read them from the disk."""

    @model_validator(mode="after")
    def _resident_is_packed(self) -> Data:
        if self.packed_dir is None and self.resident != "auto":
            raise ValueError(
                f"resident ({self.resident}) is for packed sets; give packed_dir a folder"
            )
        return self


class Opt(StrictModel):
    """The optimizer, its learning rates, and how they rise and fall."""

    lr: float = Field(default=1e-3, gt=0)
    """Learning rate of everything that has none of its own."""
    lr_cnn: float | None = Field(default=None, gt=0)
    lr_rnn: float | None = Field(default=None, gt=0)
    """Learning rate of the fusion and the GRU."""
    lr_heads: float | None = Field(default=None, gt=0)
    lr_encoder: float = Field(default=1e-4, gt=0)
    """Learning rate of the last layers of an encoder that is fine-tuned."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Ratio of an encoder's learning rates from one layer to the one below it."""
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(default=0.0, ge=0)
    warmup: Literal["exp", "linear"] = "exp"
    warmup_steps: PositiveInt | None = None
    """Steps of the warm-up; null: training.n_epochs_warmup epochs."""
    annealing: Literal["quarter_cosine", "half_cosine"] = "quarter_cosine"
    """quarter_cosine, as published: from training.epoch_decay on; half_cosine: from the end of the
    warm-up on, to 0."""


class Feats(StrictModel):
    """The log-mel front end."""

    n_mels: PositiveInt = 128
    hop_length: PositiveInt = 256
    n_window: PositiveInt = 2048
    sample_rate: PositiveInt = 16000
    f_min: float = Field(default=0.0, ge=0)
    f_max: float = Field(default=8000.0, gt=0)

    @model_validator(mode="after")
    def _bands_fit(self) -> Feats:
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(
                f"f_min ({self.f_min}) < f_max ({self.f_max}) <= sample_rate / 2 "
                f"({self.sample_rate / 2}) must hold"
            )
        return self


class Net(StrictModel):
    """The CRNN; see `desed_task.nnet.CRNN`."""

    dropout: float = Field(default=0.2, ge=0, lt=1)
    n_layers_RNN: PositiveInt = 2
    n_in_channel: Literal[1] = 1
    nclass: PositiveInt = 27
    attention: Literal[True] = True
    n_RNN_cell: PositiveInt = 192
    activation: Literal["glu", "cg", "relu", "leakyrelu"] = "glu"
    rnn_type: Literal["BGRU"] = "BGRU"
    kernel_size: tuple[PositiveInt, ...] = (3,) * 7
    padding: tuple[int, ...] = (1,) * 7
    stride: tuple[PositiveInt, ...] = (1,) * 7
    nb_filters: tuple[PositiveInt, ...] = (16, 32, 64, 128, 128, 128, 128)
    pooling: tuple[tuple[PositiveInt, PositiveInt], ...] = ((2, 2), (2, 2)) + ((1, 2),) * 5
    dropstep_recurrent: float = Field(default=0.3, ge=0, le=1)
    """Longest share of a stream's frames that time dropping zeroes in training; 0 turns it off."""
    dropstep_recurrent_len: int = Field(default=16, ge=0)
    """Longest run of frames that time dropping zeroes."""
    dropstep_scope: Literal["batch", "clip"] = "batch"
    """batch, as published: time dropping and SpecAugment draw one run for the whole batch; clip:
    one per clip."""
    use_embeddings: bool = True
    embedding_size: PositiveInt | None = None
    """Features of an embedding; null for those of the stored embeddings. A file's number is about
    BEATs alone, and null for other encoders. Runs and checkpoints record the stored number."""
    embedding_type: Literal["frame", "global"] = "frame"
    aggregation_type: Literal["pool1d", "interpolate", "frame", "global"] = "pool1d"
    specaugm_t_p: float = Field(default=0.0, ge=0, le=1)
    specaugm_t_l: int = Field(default=5, ge=0)
    specaugm_f_p: float = Field(default=0.0, ge=0, le=1)
    specaugm_f_l: int = Field(default=10, ge=0)
    median_filter: tuple[PositiveInt, ...] = ()
    """Length in frames, one per class, in the order of the task's classes; in a file also one for
    all, or {label: length}, with 7 for the others."""

    @field_validator("median_filter", mode="before")
    @classmethod
    def _of_classes(cls, lengths: Any) -> Any:
        if isinstance(lengths, dict):  # Those of classes have become a list.
            raise ValueError(f"names unknown classes: {', '.join(map(str, lengths))}")
        return lengths

    @model_validator(mode="after")
    def _lists_fit(self) -> Net:
        problems = []
        blocks = len(self.nb_filters)
        for name in ("kernel_size", "padding", "stride", "pooling"):
            if len(getattr(self, name)) != blocks:
                problems.append(
                    f"{name} has {count_of(len(getattr(self, name)), 'entry', 'entries')}, "
                    f"nb_filters {blocks}; give one per block"
                )
        if (self.embedding_type == "global") != (self.aggregation_type == "global"):
            problems.append(
                f"embedding_type {self.embedding_type!r} does not go with aggregation_type "
                f"{self.aggregation_type!r}; global goes with global, frame with the others"
            )
        problems += self._resizing_blocks()
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _resizing_blocks(self) -> list[str]:
        """Blocks whose convolution changes the number of frames or bands, as only pooling may."""
        shapes = zip(self.kernel_size, self.padding, self.stride, strict=False)
        return [
            f"block {i} has kernel_size {kernel}, padding {padding} and stride {stride}, which "
            "changes the number of frames and bands; give stride 1 and an odd kernel_size with "
            "padding (kernel_size - 1) / 2"
            for i, (kernel, padding, stride) in enumerate(shapes)
            if stride != 1 or 2 * padding != kernel - 1
        ]


class Energy(StrictModel):
    """codecarbon's estimate of the energy used, made offline for the given country."""

    enabled: bool = True
    country_iso_code: str = Field(default="FRA", pattern="^[A-Z]{3}$")
    """Three-letter code of the country, which determines the carbon intensity of electricity."""


class Logging(StrictModel):
    """Where the curves of a run go, beside its folder."""

    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Each once. wandb and mlflow are extras of the installation."""
    wandb: dict[str, Any] = Field(default={})
    """Arguments of Lightning's WandbLogger. Without `offline: false`, W&B only writes into the run
    folder."""
    mlflow: dict[str, Any] = Field(default={})
    """Arguments of Lightning's MLFlowLogger. Without `tracking_uri`, MLflow only writes into
    LOG_DIR/mlflow.db."""


class InitialWeights(StrictModel):
    """Written by train_pretrained.py --init_from_checkpoint; empty for random weights."""

    checkpoint: str = ""
    """The file that the training started from."""
    checkpoint_sha256: str = ""
    classes: dict[str, str | None] = Field(default={})
    """Class of the task -> class of the file whose rows of the heads it starts from, or null for
    random ones; other classes start from those of their name (--init_classes)."""
