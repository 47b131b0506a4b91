# SPDX-License-Identifier: Apache-2.0
"""Runs the training of a temporal network; `hmr train body_filter CONFIG` or rsc_temporal."""

from __future__ import annotations

from pathlib import Path

import lightning
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger
import torch
from torch.utils.data import DataLoader

from hmr_ros.body import load_body
from hmr_ros.evaluation.subject import Subject
from hmr_ros.runtime import load_engine
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.rsc_net.rounding import rounded
from hmr_ros.training.rsc_net.temporal_config import TemporalConfig
from hmr_ros.training.rsc_net.temporal_data import Windows
from hmr_ros.training.rsc_net.temporal_module import build_temporal, TemporalModule
from hmr_ros.training.rsc_net.tracks import read_tracks, Tracks
from hmr_ros.training.rsc_net.weights import RscFacts, save_weights


def train(config: TemporalConfig, out: str | Path) -> Path:
    """
    Train one temporal network; write `weights.safetensors` and curves below `out`.

    What the engine says of the films is recorded first and kept there for the next training.
    """
    subject = Subject.of(load_engine(config.engine), load_body())
    tracks = read_tracks(
        subject, config.films, config.frames, config.passes, config.seed, Path(out))
    network = fit(config, tracks, subject, out)
    facts = RscFacts(
        config.network, features=tracks.feature.shape[-1], hidden=config.hidden,
        features_of=subject.engine.entry.sha256)
    state = {f'network.{name}': value for name, value in rounded(network).state_dict().items()}
    return save_weights(state, Path(out) / 'weights.safetensors', facts)


def fit(
        config: TemporalConfig, tracks: Tracks, subject: Subject,
        out: str | Path) -> torch.nn.Module:
    """Train on `tracks` and return the network."""
    if not tracks.feature.shape[-1]:
        raise TrainingError(f'engine {config.engine!r} has no output feature; choose another one')
    torch.manual_seed(config.seed)
    module = TemporalModule(config, build_temporal(config, tracks), subject.body)
    trainer = lightning.Trainer(
        max_epochs=1, limit_train_batches=config.steps, default_root_dir=out,
        logger=CSVLogger(out, name='curves', flush_logs_every_n_steps=50),
        log_every_n_steps=min(25, max(1, config.steps // 40)), enable_checkpointing=False,
        callbacks=[RichProgressBar(refresh_rate=20)])
    trainer.fit(module, DataLoader(Windows(tracks, config), batch_size=None))
    return module.network.eval()
