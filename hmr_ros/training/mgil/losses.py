# SPDX-License-Identifier: Apache-2.0
"""The loss of keypoints as classifications (sheet, section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from hmr_ros.training.mgil.targets import Targets


def simcc_loss(
        simcc_x: torch.Tensor, simcc_y: torch.Tensor, targets: Targets,
        form: str = 'sum') -> torch.Tensor:
    """
    Kullback-Leibler divergence of the targets from softmax of the logits, both axes added.

    simcc_x, simcc_y  logits (N, K, k W) and (N, K, k H)
    form              a name of FORMS
    """
    return sum(FORMS[form](divergence(logits, target) * targets.weight[..., None])
               for logits, target in ((simcc_x, targets.x), (simcc_y, targets.y)))


def divergence(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Part of each bin in the divergence, the shape of `logits`."""
    # Half precision would lose the small probabilities of most bins.
    return functional.kl_div(
        functional.log_softmax(logits.float(), -1), target.float(), reduction='none')


#: from parts (N, K, M) to one number: the sum over keypoints and bins, mean over people, which is
#: how networks for low resolution are trained; or the mean over all.
FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    'sum': lambda parts: parts.sum() / len(parts), 'mean': torch.mean}
