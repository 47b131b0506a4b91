# SPDX-License-Identifier: Apache-2.0
"""Runs one training of the person detector; `hmr train mgil_detector CONFIG`."""

from __future__ import annotations

from pathlib import Path

import torch

from hmr_ros.networks.mgil.deploy import fold_blocks
from hmr_ros.networks.mgil.detector import build_detector
from hmr_ros.training import weights_file
from hmr_ros.training.mgil.detector.config import DetectorConfig
from hmr_ros.training.mgil.detector.data import training_loader
from hmr_ros.training.mgil.detector.module import DetectorModule
from hmr_ros.training.mgil.detector.pictures import training_scenes
from hmr_ros.training.mgil.detector.weights import save_weights
from hmr_ros.training.trainer import build_trainer
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
    trainer = build_trainer(
        config, out, config.steps, devices, config.checkpoint_every, _MOST_GRADIENT)
    trainer.fit(module, loader, ckpt_path=resume)
    path = Path(out) / 'weights.safetensors'
    # All processes end with the same weights; two writers would spoil the file.
    return save_weights(module.network, path) if trainer.is_global_zero else path
