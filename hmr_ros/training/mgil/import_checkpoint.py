# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of SimCC, mmpose, HRNet and torchvision, tensor by tensor (sheet, section 5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import re

import torch

from hmr_ros.networks.hrnet import W32, W48
from hmr_ros.networks.mgil import build_pose, PoseVariant, STRIDED
from hmr_ros.training.checkpoint_file import read_checkpoint, State, transfer
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.mgil.weights import PoseFacts, save_weights

LICENCE = 'unknown: ask the authors of the checkpoint'
#: which of the two peaks is the score, by the labels of the training.
SCORE_MODES = {'smoothing': 'max', 'gaussian': 'min'}
#: counters that old files lack and nothing needs.
COUNTER = '.num_batches_tracked'
_TRUNK = {W32.widths[0]: 'w32', W48.widths[0]: 'w48'}
_HRNET_KEY, _RESNET_KEY = 'stage2.0.branches.0.0.conv1.weight', 'layer4.2.conv3.weight'


@dataclass(frozen=True)
class Layout:
    """
    One program's checkpoints.

    program  whose they are
    mark     a key that only they have
    ours     their name of a tensor as ours
    skipped  their names of tensors that no network here has
    pose     whether keypoints are read; else the weights are of a trunk for pictures
    """

    program: str
    mark: re.Pattern[str]
    ours: Callable[[str], str]
    skipped: re.Pattern[str]
    pose: bool


def _of_mmpose(key: str) -> str:
    return re.sub(r'^(backbone|head)\.(deconv_head\.)?', '', key)


_NOTHING = re.compile(r'(?!)')
MMPOSE = Layout('mmpose', re.compile(r'backbone\.'), _of_mmpose,
                re.compile(r'data_preprocessor\.'), pose=True)
HRNET = Layout(
    'HRNet for ImageNet', re.compile(r'incre_modules\.'), str,
    re.compile(r'(incre_modules|downsamp_modules|classifier|final_layer)\.'
               r'|stage4\.2\.fuse_layers\.[123]\.'), pose=False)
SIMCC = Layout('SimCC', re.compile(r'mlp_head_x\.'), str, _NOTHING, pose=True)
TORCHVISION = Layout('torchvision', re.compile(r'fc\.'), str, re.compile(r'fc\.'), pose=False)
LAYOUTS = (MMPOSE, HRNET, SIMCC, TORCHVISION)


@dataclass(frozen=True)
class Source:
    """
    A checkpoint under our names.

    layout   whose it is
    state    its tensors
    skipped  its own names of tensors that no network here has
    """

    layout: Layout
    state: State
    skipped: tuple[str, ...]


def read_source(path: str | Path) -> Source:
    """Read a checkpoint of any of LAYOUTS; TrainingError when it is of none, or not finite."""
    found = read_checkpoint(path)
    for layout in LAYOUTS:
        if any(layout.mark.match(key) for key in found):
            break
    else:
        raise TrainingError(
            f'checkpoint {path} is of none of {", ".join(one.program for one in LAYOUTS)}: its '
            f'first key is {next(iter(found))!r}')
    for key, value in found.items():
        if not torch.isfinite(value).all():
            raise TrainingError(f'checkpoint {path}: {key!r} holds numbers that are not finite')
    skipped = tuple(key for key in found if layout.skipped.match(key))
    return Source(layout, {layout.ours(key): value for key, value in found.items()
                           if key not in skipped}, skipped)


def import_checkpoint(
        path: str | Path, out: str | Path, height: int, width: int, split_ratio: float,
        labels: str | None = None) -> PoseFacts:
    """
    Convert a pose checkpoint of SimCC or mmpose into a weights file of ours; returns its facts.

    height, width  of the crops in pixels, and `split_ratio` bins per pixel, as its name says; files
                   do not hold them, but what they hold must agree
    labels         smoothing or gaussian, what it was trained with; when left out gaussian for files
                   of mmpose, smoothing for those of SimCC

    Every tensor of the file is used once, skipped because the sheet says so, or named in the
    TrainingError that refuses the file.
    """
    source = read_source(path)
    if not source.layout.pose:
        raise TrainingError(
            f'checkpoint {path} is of {source.layout.program}, a trunk without keypoints; it can '
            'only start a training')
    variant = variant_of(source.state, height, width, split_ratio, path)
    network = build_pose(variant)
    done = transfer(source.state, network)
    missing = [name for name in done.fresh if not name.endswith(COUNTER)]
    for names, problem in ((done.refused, 'does not have in this shape'),
                           (missing, 'needs and the file lacks')):
        if names:
            raise TrainingError(
                f'checkpoint {path}: {names[0]!r} and {len(names) - 1} more are tensors that '
                f'{variant.backbone} {problem}')
    facts = _facts(source, variant, labels)
    save_weights({f'network.{name}': value for name, value in network.state_dict().items()},
                 out, facts)
    return facts


def _facts(source: Source, variant: PoseVariant, labels: str | None) -> PoseFacts:
    """Say how the weights want to be used, by whose they are."""
    of_mmpose = source.layout is MMPOSE
    labels = labels or ('gaussian' if of_mmpose else 'smoothing')
    if labels not in SCORE_MODES:
        raise TrainingError(f'labels are {labels!r}; allowed: {", ".join(SCORE_MODES)}')
    resnet = variant.backbone.startswith('resnet')
    return PoseFacts.of(
        variant, color_order='bgr' if resnet and not of_mmpose else 'rgb', labels=labels,
        score_mode=SCORE_MODES[labels], flip_shift=0 if of_mmpose else 1, licence=LICENCE)


def variant_of(
        state: State, height: int, width: int, split_ratio: float,
        path: str | Path) -> PoseVariant:
    """Tell the network by its tensors; TrainingError when the given sizes contradict them."""
    try:
        x, y = (state[f'mlp_head_{axis}.weight'] for axis in 'xy')
        channels = state['final_layer.weight'].shape[0]
        backbone = _backbone_of(state, path)
    except KeyError as error:
        raise TrainingError(f'checkpoint {path} lacks {error}; is the file whole?') from error
    if backbone == 'resnet50_upsample_free':
        maps = x.shape[1] // max(1, (width // 32) * (height // 32))
        cells, channels = maps * (width // 32) * (height // 32), channels // max(1, maps)
    else:
        cells = (width // 4) * (height // 4)
    try:
        variant = PoseVariant(backbone, STRIDED, height, width, split_ratio, channels)
    except ValueError as error:
        raise TrainingError(f'checkpoint {path}: {error}') from error
    told, held = (*variant.bins, cells), (len(x), len(y), x.shape[1])
    if told != held:
        raise TrainingError(
            f'checkpoint {path} is not for {width}x{height} pixels and split ratio {split_ratio}: '
            f'bins of x and y and cells of a map would be {told}, the file has {held}')
    return variant


def _backbone_of(state: State, path: str | Path) -> str:
    if _RESNET_KEY in state:
        return 'resnet50' if 'deconv_layers.0.weight' in state else 'resnet50_upsample_free'
    width = state[_HRNET_KEY].shape[0]
    if width not in _TRUNK:
        raise TrainingError(
            f'checkpoint {path} is of an HRNet of width {width}; expected one of '
            f'{", ".join(map(str, _TRUNK))}')
    return _TRUNK[width]
