# SPDX-License-Identifier: Apache-2.0
"""The Lightning trainer of all trainings that can be interrupted: curves, progress, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import lightning
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger


def build_trainer(
        config: Any, out: str | Path, steps: int, devices: int = 1,
        checkpoint_every: int = 500, clip: float | None = None,
        callbacks: Sequence[Callback] = ()) -> lightning.Trainer:
    """
    Build a trainer that writes curves and the checkpoint `last` below `out`.

    config            has `precision`: 32-true, bf16-mixed or 16-mixed
    devices           GPUs, or processes without one
    checkpoint_every  steps between checkpoints to resume from
    clip              largest norm of the gradient, None for any
    callbacks         beside progress and checkpoints
    """
    return lightning.Trainer(
        devices=devices, precision=config.precision, max_steps=steps, default_root_dir=out,
        gradient_clip_val=clip,
        # Some networks have parts without a gradient in some stages.
        strategy='ddp_find_unused_parameters_true' if devices > 1 else 'auto',
        logger=CSVLogger(out, name='curves', flush_logs_every_n_steps=50),
        log_every_n_steps=min(25, max(1, steps // 40)), callbacks=[
            *callbacks, RichProgressBar(refresh_rate=20),
            ModelCheckpoint(out, 'last', every_n_train_steps=checkpoint_every, save_top_k=1,
                            enable_version_counter=False)])
