# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the authors' program, tensor by tensor (sheet, section 5)."""

from __future__ import annotations

from pathlib import Path
import re

import torch

from hmr_ros.networks.keypoint_guided import KeypointGuided, Variant
from hmr_ros.training.checkpoint_file import read_checkpoint, refuse_left, take
from hmr_ros.training.errors import TrainingError
from hmr_ros.training.keypoint_guided.flows import Flows
from hmr_ros.training.keypoint_guided.weights import save_weights, WeightsFacts

#: normalisation of the authors' code: ImageNet's constants in B, G, R order, on R, G, B.
MEAN, STD = (0.406, 0.457, 0.480), (0.225, 0.224, 0.229)
TOKENS_KEY = 'pose_head.final_layer.weight'
#: our names -> the authors', the first rule that matches.
RULES = tuple((re.compile(pattern), name) for pattern, name in (
    (r'network\.tokens\.conv\.', 'pose_head.final_layer.'),
    (r'network\.tokens\.norm\.g$', 'pose_head.mlp.0.g'),
    (r'network\.tokens\.linear\.', 'pose_head.mlp.1.'),
    (r'network\.attention\.norm\.g$', 'pose_head.gau.ln.g'),
    (r'network\.attention\.out\.', 'pose_head.gau.o.'),
    (r'network\.attention\.residual_scale$', 'pose_head.gau.res_scale.scale'),
    (r'network\.attention\.', 'pose_head.gau.'),
    (r'network\.trunk\.shape\.', 'decshape.'),
    (r'network\.trunk\.camera\.', 'deccam.'),
    (r'network\.trunk\.twist\.', 'decphi.'),
    (r'network\.trunk\.init_camera$', 'init_cam'),
    (r'network\.trunk\.', ''),
    (r'sheet\.flows\.', ''),
    (r'network\.backbone\.', 'preact.')))
MGFENET_RULES = tuple((re.compile(pattern), name) for pattern, name in (
    (r'network\.backbone\.stem\.0\.', 'preact.conv1.conv.'),
    (r'network\.backbone\.stem\.1\.', 'preact.conv1.bn.'),
    (r'network\.backbone\.head\.', 'preact.conv2.conv.')))
_BLOCK = re.compile(r'network\.backbone\.blocks\.(\d+)\.')
_BLOCK_PARTS = {
    'filter': '', 'expand.0': 'expand_conv.conv', 'expand.1': 'expand_conv.bn',
    'depthwise.0': 'depthwise_conv.conv', 'depthwise.1': 'depthwise_conv.bn',
    'project.0': 'linear_conv.conv', 'project.1': 'linear_conv.bn',
    'squeeze.reduce': 'se.conv1.conv', 'squeeze.expand': 'se.conv2.conv'}
#: six 256 -> 1 maps of theirs are rows of two matrices here.
STACKED = {'network.heads.coordinates.weight': 'coord', 'network.heads.sigmas.weight': 'sigma'}
#: keys of other experiments of the authors, and what they mean.
FOREIGN = {
    'fc3': 'the refinement-loop variant, which was never published',
    'fc_coord': 'an earlier experiment with 24, 29 or 54 points',
    'fc_uvd54_': 'an earlier experiment with a coarse mesh'}


def import_checkpoint(path: str | Path, out: str | Path) -> WeightsFacts:
    """
    Convert an authors' checkpoint into a weights file of ours; returns its facts.

    Every tensor of the file is used once, dropped because the sheet says so (licensed body data and
    counters), or named in the TrainingError that refuses the file.
    """
    found = read_checkpoint(path)
    for key in found:
        for prefix, meaning in FOREIGN.items():
            if key.startswith(prefix):
                raise TrainingError(f'checkpoint {path} holds {key!r}: {meaning}; not supported')
    variant = variant_of(found, path)
    state = {name: _take(found, name, value, variant, path)
             for name, value in _wanted(variant).items()}
    left = {key: value for key, value in found.items() if not key.startswith('smpl.')
            and not key.endswith('.num_batches_tracked')}
    refuse_left(left, f'{variant.backbone} with {variant.tokens} tokens', path)
    facts = WeightsFacts(variant.backbone, variant.tokens, MEAN, STD, 'known_box', 'smpl',
                         'unknown: ask the authors of the checkpoint')
    save_weights(state, out, facts)
    return facts


def variant_of(found: dict[str, torch.Tensor], path: str | Path) -> Variant:
    """Tell the variant by the token convolution (sheet, section 5)."""
    if TOKENS_KEY not in found:
        raise TrainingError(f'checkpoint {path} lacks {TOKENS_KEY!r}; is it of keypoint_guided?')
    shape = tuple(found[TOKENS_KEY].shape)
    backbones = {960: 'mgfenet', 512: 'resnet34', 2048: 'hrnet_w48'}
    if len(shape) != 4 or shape[0] not in (96, 29) or shape[1] not in backbones:
        raise TrainingError(
            f'checkpoint {path}: {TOKENS_KEY!r} has shape {shape}; expected 96 or 29 tokens from '
            '960 (MGFENet), 512 (ResNet-34) or 2048 (HRNet-W48) channels')
    return Variant(backbones[shape[1]], shape[0])


def _wanted(variant: Variant) -> dict[str, torch.Tensor]:
    """Our tensors, `network.` and the flows of `sheet.`, that a checkpoint must fill."""
    network, flows = KeypointGuided(variant).state_dict(), Flows().state_dict()
    return {**{f'network.{name}': value for name, value in network.items()},
            **{f'sheet.flows.{name}': value for name, value in flows.items()}}


def _take(
        found: dict[str, torch.Tensor], name: str, ours: torch.Tensor, variant: Variant,
        path: str | Path) -> torch.Tensor:
    """Remove from `found` what fills our tensor `name`."""
    if name.endswith('.num_batches_tracked'):
        return ours
    if name in STACKED:
        shape = (1, ours.shape[1])
        return torch.cat([
            take(found, f'pose_head.cls_{axis}_{STACKED[name]}.weight', shape, path)
            for axis in 'uvd']).float()
    return take(found, authors_key(name, variant), tuple(ours.shape), path).float()


def authors_key(name: str, variant: Variant) -> str:
    """Return the authors' name of our tensor `name`."""
    rules = RULES
    if variant.backbone == 'mgfenet':
        rules = MGFENET_RULES + RULES
        block = _BLOCK.match(name)
        if block:
            part = next(p for p in _BLOCK_PARTS if name[block.end():].startswith(p + '.'))
            rest = name[block.end() + len(part) + 1:]
            middle = f'{_BLOCK_PARTS[part]}.' if _BLOCK_PARTS[part] else ''
            return f'preact.layer{int(block[1]) + 1}.{middle}{rest}'
    pattern, theirs = next(rule for rule in rules if rule[0].match(name))
    return pattern.sub(theirs, name, count=1)
