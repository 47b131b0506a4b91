# SPDX-License-Identifier: Apache-2.0
"""Losses of normals, depth and mask (sheet, section 4), and errors that people can read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from hmr_ros.perception.digitizer.depth import UNITS_PER_D

_PLAIN, _STRUCTURE, _HALF = 0.85, 0.15, 0.5
_MASK = 0.15
_SIDES = 2
#: of the structural similarity of values 0 to 1.
_TAPS, _SIGMA, _CONSTANTS = 5, 1.5, (0.01 ** 2, 0.03 ** 2)
_FORWARD, _LEAST_DEPTH = 1 / 255, 0.2
_CENTIMETRES = 100


@dataclass(frozen=True)
class Truth:
    """
    What N images show; all float32.

    depth    (N, 2, H, W) D of front and back, empty where nobody is
    mask     (N, 1, H, W) 1 on the body, else 0
    normals  (N, 6, H, W) encoded, of front and back, 0 where nobody is
    """

    depth: torch.Tensor
    mask: torch.Tensor
    normals: torch.Tensor

    @classmethod
    def of(cls, depth: torch.Tensor) -> Truth:
        """Read it off the depth `(N, 2, H, W)`."""
        mask = (depth[:, :1] <= depth[:, 1:]).float()
        return cls(depth, mask, slopes(depth) * mask)


def slopes(depth: torch.Tensor) -> torch.Tensor:
    """Encode normals `(N, 6, H, W)` of both sides' D `(N, 2, H, W)`, as perception does."""
    across = functional.pad(depth[..., :-1] - depth[..., 1:], (0, 1))
    down = functional.pad(depth[..., :-1, :] - depth[..., 1:, :], (0, 0, 1, 0))
    slope = torch.stack([across, down, torch.full_like(depth, _FORWARD)], 2)
    encoded = (functional.normalize(slope, dim=2) + 1) / 2
    return (encoded * (depth >= _LEAST_DEPTH)[:, :, None]).flatten(1, 2)


def similarity(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Structural similarity `(N, C)`, 0 to 1, of maps `(N, C, H, W)`; less than 0 is 0."""
    maps = torch.cat([found, truth, found * found, truth * truth, found * truth], 1)
    mean, wanted, square, wanted_square, product = _blurred(maps).chunk(5, 1)
    variances = square - mean ** 2 + wanted_square - wanted ** 2
    covariance = product - mean * wanted
    light, contrast = _CONSTANTS
    alike = ((2 * mean * wanted + light) * (2 * covariance + contrast)
             / ((mean ** 2 + wanted ** 2 + light) * (variances + contrast)))
    return alike.flatten(2).mean(2).clamp(min=0)


def _blurred(maps: torch.Tensor) -> torch.Tensor:
    """Blur `(N, C, H, W)` by a Gaussian, without what would need pixels outside."""
    off = torch.arange(_TAPS, device=maps.device) - (_TAPS - 1) / 2
    taps = torch.softmax(-off ** 2 / (2 * _SIGMA ** 2), 0).to(maps.dtype)
    for shape in ((_TAPS, 1), (1, _TAPS)):
        kernel = taps.reshape(1, 1, *shape).expand(maps.shape[1], 1, *shape)
        maps = functional.conv2d(maps, kernel, groups=maps.shape[1])
    return maps


def normal_loss(
        found: torch.Tensor, truth: torch.Tensor, images: int,
        body_weight: float = 0.0) -> torch.Tensor:
    """
    Loss of encoded normals `(B, 6, H, W)`, of front and back.

    images  how many images the B maps are of: absolute errors add up over the parts of an image,
            as published, so arms and legs count four times; similarity is averaged
    body_weight  see DigitizerConfig
    """
    off = (found - truth).abs().flatten(2).mean(2).sum(0) / images
    unlike = 1 - similarity(found, truth).mean(0)
    there = _there(truth).repeat_interleave(3, 1)
    body = ((found - truth).abs() * there).sum() / there.sum().clamp(min=1)
    # A mean over a side's three channels, a sum over the sides.
    return _HALF * ((_PLAIN * off + _STRUCTURE * unlike).sum() / 3 + _SIDES * body_weight * body)


def depth_terms(
        depth: torch.Tensor, mask: torch.Tensor, truth: Truth,
        body_weight: float = 0.0, background_weight: float = 1.0) -> dict[str, torch.Tensor]:
    """
    Terms of D `(N, 2, H, W)` and the mask's logit `(N, 1, H, W)`.

    body_weight, background_weight  see DigitizerConfig
    """
    sides = depth.shape[1]
    weight = truth.mask + background_weight * (1 - truth.mask)
    terms = {
        'depth': _PLAIN * sides * (weight * functional.smooth_l1_loss(
            depth, truth.depth, reduction='none')).mean(),
        'slopes': _STRUCTURE * sides * functional.smooth_l1_loss(
            slopes(depth) * truth.mask, truth.normals),
        'mask': _MASK * functional.binary_cross_entropy_with_logits(mask, truth.mask)}
    if body_weight > 0:
        terms['body'] = body_weight * sides * on_body((depth - truth.depth).abs(), truth).mean()
    return terms


def on_body(values: torch.Tensor, truth: Truth) -> torch.Tensor:
    """Mean `(C,)` of `(N, C, H, W)` over all pixels of bodies."""
    return (values * truth.mask).sum((0, 2, 3)) / truth.mask.sum().clamp(min=1)


@torch.no_grad()
def depth_errors(
        depth: torch.Tensor, mask: torch.Tensor, truth: Truth,
        unit_m: torch.Tensor) -> dict[str, torch.Tensor]:
    """
    Mean error on the body in centimetres, and how much of both masks is common.

    depth, mask  as for `depth_terms`;  unit_m  (N,) metres
    """
    scale = _CENTIMETRES * UNITS_PER_D * unit_m[:, None, None, None]
    front, back = on_body(scale * (depth.clamp(0, 6) - truth.depth).abs(), truth)
    seen, there = mask > 0, truth.mask > 0
    return {'front_cm': front, 'back_cm': back,
            'iou': (seen & there).sum() / (seen | there).sum().clamp(min=1)}


@torch.no_grad()
def normal_error(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Mean distance of encoded normals `(B, 6, H, W)`, doubled to vectors' length, on the body."""
    apart = 2 * (found - truth).unflatten(1, (2, 3)).norm(dim=2)
    there = _there(truth)
    return (apart * there).sum() / there.sum().clamp(min=1)


def _there(normals: torch.Tensor) -> torch.Tensor:
    """Tell which sides of encoded normals `(B, 6, H, W)` show somebody: bool `(B, 2, H, W)`."""
    return normals.unflatten(1, (_SIDES, 3)).sum(2) > 0
