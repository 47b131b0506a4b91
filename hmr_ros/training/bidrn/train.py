# SPDX-License-Identifier: Apache-2.0
"""Runs one training of the whole-body network; `hmr train bidrn CONFIG`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from hmr_ros.body import load_whole_body
from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.training.bidrn.beginning import beginning, People
from hmr_ros.training.bidrn.config import WholeBodyConfig
from hmr_ros.training.bidrn.data import Batches, training_loader, WHOLE_RECIPE
from hmr_ros.training.bidrn.module import WholeBodyModule
from hmr_ros.training.bidrn.weights import save_weights, WholeBodyFacts
from hmr_ros.training.trainer import build_trainer
from hmr_ros.training.turns import steps_done


def train(
        config: WholeBodyConfig, out: str | Path, workers: int = 1, resume: str | None = None,
        devices: int = 1) -> Path:
    """
    Train and write `weights.safetensors` and curves below `out`.

    workers  processes that make samples, for each device; devices GPUs, or processes without one
    resume   checkpoint of the same training that was interrupted; it goes on as if it had not been
    """
    first = devices * steps_done(resume) if resume else 0
    batches = Batches(
        list(config.stores), config.variant.sizes.image, config.batch, config.seed,
        replace(WHOLE_RECIPE, **dict(config.recipe)), config.photos, first)
    return fit(config, training_loader(batches, workers), batches, load_whole_body(), out,
               resume, devices)


def fit(
        config: WholeBodyConfig, loader: Iterable, some: People, body: WholeBodyModel,
        out: str | Path, resume: str | None = None, devices: int = 1) -> Path:
    """Do the same on the batches of `loader`; `some` of them show the network where it begins."""
    torch.manual_seed(config.seed)
    network = beginning(config, some).to(memory_format=torch.channels_last)
    module = WholeBodyModule(config, network, body)
    trainer = build_trainer(config, out, config.steps, devices, config.checkpoint_every)
    trainer.fit(module, loader, ckpt_path=resume)
    path = Path(out) / 'weights.safetensors'
    # All processes end with the same weights; two writers would spoil the file.
    if trainer.is_global_zero:
        facts = WholeBodyFacts(config.row, asdict(config.variant), body.name)
        save_weights(network.state_dict(), path, facts)
    return path
