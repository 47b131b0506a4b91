# SPDX-License-Identifier: Apache-2.0
"""The 137 joints that teach the network, and which of them belong together (sheet, section 1)."""

from __future__ import annotations

import torch

#: rows of the 144 joints of SMPL-X, in the order of BODY_JOINTS.
_BODY = (0, 1, 2, 4, 5, 7, 8, 12, *range(16, 22), *range(60, 66), 59, 58, 57, 56, 55)
#: in the order of HAND_JOINTS: three joints of each finger and its tip.
_LEFT = (37, 38, 39, 66, 25, 26, 27, 67, 28, 29, 30, 68, 34, 35, 36, 69, 31, 32, 33, 70)
_RIGHT = (52, 53, 54, 71, 40, 41, 42, 72, 43, 44, 45, 73, 49, 50, 51, 74, 46, 47, 48, 75)
#: jaw, head, eyes, 51 landmarks and 17 of the contour.
_FACE = (22, 15, 57, 56, *range(76, 127), *range(127, 144))
SUPERVISED = (*_BODY, *_LEFT, *_RIGHT, *_FACE)
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
