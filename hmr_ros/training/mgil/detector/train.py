# SPDX-License-Identifier: Apache-2.0
"""Runs one training of the person detector; `hmr train mgil_detector CONFIG`."""

from __future__ import annotations

from pathlib import Path

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
import torch

from hmr_ros.networks.mgil.deploy import fold_blocks
from hmr_ros.networks.mgil.detector import build_detector
from hmr_ros.training import weights_file
from hmr_ros.training.mgil.detector.config import DetectorConfig
from hmr_ros.training.mgil.detector.data import training_loader
from hmr_ros.training.mgil.detector.module import DetectorModule
from hmr_ros.training.mgil.detector.pictures import training_scenes
from hmr_ros.training.mgil.detector.weights import save_weights
from hmr_ros.training.turns import steps_done

_MOST_GRADIENT = 10.0


def train(
        config: DetectorConfig, out: str | Path, workers: int = 1, resume: str | None = None,
        devices: int = 1) -> Path:
    """
    Train and write `weights.safetensors` and curves below `out`.

    workers  processes that cut windows, for each device; devices GPUs, or processes without one
    resume   checkpoint of the same training that was interrupted; it goes on as if it had not been
    """
    torch.manual_seed(config.seed)
    network = build_detector(config.variant)
    if config.start_from:
        weights_file.fill(
            network, weights_file.network_tensors(config.start_from), config.start_from)
    fold_blocks(network)
    module = DetectorModule(config, network.to(memory_format=torch.channels_last))
    first = devices * steps_done(resume) if resume else 0
    loader = training_loader(config, training_scenes(config), workers, first)
    trainer = lightning.Trainer(
        devices=devices, precision=config.precision, max_steps=config.steps,
        default_root_dir=out, gradient_clip_val=_MOST_GRADIENT,
        logger=CSVLogger(out, name='curves', flush_logs_every_n_steps=50),
        log_every_n_steps=min(25, max(1, config.steps // 40)), callbacks=[
            RichProgressBar(refresh_rate=20),
            ModelCheckpoint(out, 'last', every_n_train_steps=config.checkpoint_every, save_top_k=1,
                            enable_version_counter=False)])
    trainer.fit(module, loader, ckpt_path=resume)
    path = Path(out) / 'weights.safetensors'
    # All processes end with the same weights; two writers would spoil the file.
    return save_weights(module.network, path) if trainer.is_global_zero else path
