# SPDX-License-Identifier: Apache-2.0
"""Which of the 137 joints that teach the network belong together (sheet, section 1)."""

from __future__ import annotations

import torch

#: where the parts are among them.
BODY, LEFT_HAND, RIGHT_HAND, FACE = slice(0, 25), slice(25, 45), slice(45, 65), slice(65, 137)
#: each part and the joint it is seen from: pelvis, wrists, neck.
_ORIGINS = ((BODY, 0), (LEFT_HAND, 12), (RIGHT_HAND, 13), (FACE, 7))
#: those that heat-maps show.
MAPPED = slice(0, 65)


def relative(joints: torch.Tensor) -> torch.Tensor:
    """Joints `(..., 137, 3)` as seen from their part's own: pelvis, wrists, neck."""
    return torch.cat([joints[..., part, :] - joints[..., origin:origin + 1, :]
                      for part, origin in _ORIGINS], -2)
