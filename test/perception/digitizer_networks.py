# SPDX-License-Identifier: Apache-2.0
"""Networks of the digitizer that know the truth about a body."""

from __future__ import annotations

from dataclasses import dataclass, field

from digitizer_people import person
import numpy as np

from hmr_ros.perception.digitizer.alignment import align
from hmr_ros.perception.digitizer.depth import BACK_EMPTY, FRONT_EMPTY
from hmr_ros.perception.digitizer.joints import Joints
from hmr_ros.perception.digitizer.normals import encode
from hmr_ros.perception.digitizer.patches import cut_patches


def encoded(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Encode normals `(6, S, S)` of both D, empty outside."""
    return np.concatenate([encode(np.where(front == FRONT_EMPTY, BACK_EMPTY, front)),
                           encode(back)])


@dataclass
class TrueNetworks:
    """Networks for the body of two D `(S, S)` and joints; keeps what `low` and `refine` are fed."""

    front: np.ndarray
    back: np.ndarray
    joints: Joints | None = None
    fed: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def resolution(self) -> int:
        return len(self.front)

    def low(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.fed['image'] = image
        pair = np.stack([self.front, self.back])[:, 3::8, 3::8]
        there = pair[0] < FRONT_EMPTY
        # What networks say outside their mask must not matter.
        return encoded(*pair), np.concatenate([np.where(there, pair, 2), there[None]]).astype(
            np.float32)

    def parts(self, patches: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        side = self.resolution
        alignment = align(self.joints or person(side=side), side)
        normals, low = encoded(self.front, self.back), np.zeros((6, side // 8, side // 8))
        halves = [cut_patches(half, low.astype(np.float32), alignment)
                  for half in (normals[:3], normals[3:])]
        return {name: np.concatenate([half[name][:, :3] for half in halves], 1)
                for name in patches}

    def refine(self, pair: np.ndarray, normals: np.ndarray) -> np.ndarray:
        self.fed |= {'pair': pair, 'normals': normals}
        return np.stack([self.front, self.back, (self.front < FRONT_EMPTY).astype(np.float32)])
