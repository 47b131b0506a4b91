# SPDX-License-Identifier: Apache-2.0
"""Runs one training of a pose network; `hmr train mgil CONFIG`."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from hmr_ros.body import load_body
from hmr_ros.training import weights_file
from hmr_ros.training.mgil.beginning import beginning
from hmr_ros.training.mgil.config import PoseConfig
from hmr_ros.training.mgil.data import training_loader
from hmr_ros.training.mgil.module import PoseModule
from hmr_ros.training.mgil.pictures import training_pictures
from hmr_ros.training.mgil.weights import PoseFacts, save_weights
from hmr_ros.training.trainer import build_trainer
from hmr_ros.training.turns import steps_done


def train(
        config: PoseConfig, out: str | Path, workers: int = 1, resume: str | None = None,
        devices: int = 1) -> Path:
    """
    Train and write `weights.safetensors` and curves below `out`.

    workers  processes that cut crops, for each device; devices GPUs, or processes without one
    resume   checkpoint of the same training that was interrupted; it goes on as if it had not been
    """
    torch.manual_seed(config.seed)
    first = devices * steps_done(resume) if resume else 0
    loader = training_loader(config, training_pictures(config, load_body()), workers, first)
    network = beginning(config, loader.dataset)
    module = PoseModule(config, network.to(memory_format=torch.channels_last))
    trainer = build_trainer(config, out, config.steps, devices, config.checkpoint_every)
    trainer.fit(module, loader, ckpt_path=resume)
    path = Path(out) / 'weights.safetensors'
    # All processes end with the same weights; two writers would spoil the file.
    if trainer.is_global_zero:
        _save(module, path)
    return path


def _save(module: PoseModule, path: Path) -> None:
    config = module.config
    if config.labels == 'smoothing':
        scores = {'score_mode': 'max', 'top_score': 1 - config.smoothing}
    else:
        # The peak of a normal density.
        scores = {'score_mode': 'min', 'top_score': 1 / (math.sqrt(2 * math.pi) * config.sigma)}
    facts = PoseFacts.of(config.variant, labels=config.labels, **scores)
    save_weights({f'{weights_file.NETWORK}{name}': value.detach().cpu()
                  for name, value in module.network.state_dict().items()}, path, facts)
