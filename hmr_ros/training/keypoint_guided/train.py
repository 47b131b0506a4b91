# SPDX-License-Identifier: Apache-2.0
"""Runs one stage of training; `hmr train keypoint_guided CONFIG`."""

from __future__ import annotations

import logging
from pathlib import Path

from lightning.pytorch.callbacks import EMAWeightAveraging

from hmr_ros.training.keypoint_guided.config import StageConfig
from hmr_ros.training.keypoint_guided.data import training_loader
from hmr_ros.training.keypoint_guided.linear_trunk import fit_trunk, record
from hmr_ros.training.keypoint_guided.module import KeypointGuidedModule
from hmr_ros.training.keypoint_guided.weights import load_weights, save_weights, WeightsFacts
from hmr_ros.training.trainer import build_trainer
from hmr_ros.training.turns import steps_done

_MOST_GRADIENT = 5.0


def train(
        config: StageConfig, out: str | Path, workers: int = 1, resume: str | None = None,
        devices: int = 1) -> Path:
    """
    Train one stage and write `weights.safetensors` (averaged weights) and curves below `out`.

    workers  processes that make samples, for each device; devices GPUs, or processes without one
    `resume` is a checkpoint of the same stage that was interrupted; it goes on as if it had not
    been.
    """
    module = KeypointGuidedModule(config)
    if config.start_from:
        load_weights(module, config.start_from)
    first = devices * steps_done(resume) if resume else 0
    loader = training_loader(config, workers, first)
    average = EMAWeightAveraging(
        decay=0.998, update_starting_at_step=min(200, config.steps // 2))
    trainer = build_trainer(config, out, config.steps, devices, config.checkpoint_every,
                            _MOST_GRADIENT, [average])
    trainer.fit(module, loader, ckpt_path=resume)
    path = Path(out) / 'weights.safetensors'
    # All processes end with the same weights; two writers would spoil the file.
    if trainer.is_global_zero:
        _finish(module, workers, devices * config.steps, path)
    return path


def _finish(module: KeypointGuidedModule, workers: int, first: int, path: Path) -> None:
    """Fit the trunk, if asked to, to batches from `first` on, and write the weights."""
    config = module.config
    if config.fit_trunk:
        recorded = record(module, iter(training_loader(config, workers, first)), config.fit_trunk)
        explained = fit_trunk(module.network.trunk, recorded)
        logging.getLogger(__name__).info('trunk explains %s of the variance', explained)
    body = 'open_body' if config.body == 'open_body' else 'smpl'
    facts = WeightsFacts(config.backbone, config.tokens, body_model=body)
    save_weights(module.state_dict(), path, facts)
