# SPDX-License-Identifier: Apache-2.0
"""Runs one stage of training; `hmr train keypoint_guided CONFIG`."""

from __future__ import annotations

from pathlib import Path

import lightning
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
import safetensors.torch
import torch

from hmr_ros.training.errors import TrainingError
from hmr_ros.training.keypoint_guided.config import StageConfig
from hmr_ros.training.keypoint_guided.data import training_loader
from hmr_ros.training.keypoint_guided.module import KeypointGuidedModule


def train(
        config: StageConfig, out: str | Path, workers: int = 1,
        resume: str | None = None) -> Path:
    """
    Train one stage and write `weights.safetensors` (averaged weights) and curves below `out`.

    `resume` is a checkpoint of the same stage that was interrupted.
    """
    module = KeypointGuidedModule(config)
    if config.start_from:
        load_weights(module, config.start_from)
    average = EMAWeightAveraging(
        decay=0.998, update_starting_at_step=min(200, config.steps // 2))
    trainer = lightning.Trainer(
        max_steps=config.steps, default_root_dir=out, gradient_clip_val=5.0,
        logger=CSVLogger(out, name='curves', flush_logs_every_n_steps=50),
        log_every_n_steps=25, callbacks=[
            average, RichProgressBar(refresh_rate=20),
            ModelCheckpoint(out, 'last', every_n_train_steps=200, save_top_k=1)])
    trainer.fit(module, training_loader(config, workers), ckpt_path=resume)
    return save_weights(module, Path(out) / 'weights.safetensors')


def save_weights(module: KeypointGuidedModule, path: Path) -> Path:
    """Write network and decoder."""
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    safetensors.torch.save_file(state, path)
    return path


def load_weights(module: torch.nn.Module, path: str | Path) -> None:
    """Load what `save_weights` wrote; raises TrainingError when a tensor is missing or extra."""
    try:
        module.load_state_dict(safetensors.torch.load_file(path))
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise TrainingError(f'weights {path} do not fit this network: {error}') from error
