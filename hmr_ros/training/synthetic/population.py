# SPDX-License-Identifier: Apache-2.0
"""Who is rendered: shares of cameras, motions, clothes and light that may be changed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from hmr_ros.training.synthetic import appearance as ap
from hmr_ros.training.synthetic.appearance import draw_look, Look
from hmr_ros.training.synthetic.cameras import sample_views, Views
from hmr_ros.training.synthetic.errors import SyntheticError
from hmr_ros.training.synthetic.lights import draw_light, soften
from hmr_ros.training.synthetic.motions import sample_poses

#: what people do whom a camera sees in the street.
_IN_THE_STREET = ('walk', 'stand', 'turn')


@dataclass(frozen=True)
class Population:
    """
    Shares of the draw, 0 to 1; with the defaults people are drawn as they always were.

    surveillance  cameras on walls and poles, the rest on robots and in hands
    pedestrians   people who walk, stand or turn whatever the mix of motions says
    coats         coats to the thighs, the knees or the calves
    dark          plain dark clothes
    overcast      light from everywhere, hardly a shadow
    """

    surveillance: float = 0.4
    pedestrians: float = 0.0
    coats: float = 0.0
    dark: float = 0.0
    overcast: float = 0.0

    def __post_init__(self) -> None:
        """Raise SyntheticError for a share outside 0 to 1."""
        for entry in fields(self):
            if not 0 <= getattr(self, entry.name) <= 1:
                raise SyntheticError(f'population: {entry.name} is {getattr(self, entry.name)}; '
                                     'expected a share from 0 to 1')

    @classmethod
    def of(cls, shares: dict[str, float]) -> Population:
        """As the defaults but for `shares`; raises SyntheticError for an unknown name."""
        known = [entry.name for entry in fields(cls)]
        unknown = sorted(set(shares) - set(known))
        if unknown:
            raise SyntheticError(
                f'population: there is no share {unknown[0]!r}; expected some of '
                f'{", ".join(known)}')
        return cls(**shares)

    def views(self, rng: np.random.Generator, count: int) -> Views:
        """Draw cameras and where people stand in them."""
        return sample_views(rng, count, self.surveillance)

    def poses(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Rotation vectors `(count, 24, 3)` float32."""
        poses = sample_poses(rng, count)
        rows = np.flatnonzero(_drawn(rng, self.pedestrians, count))
        if len(rows):
            poses[rows] = sample_poses(rng, len(rows), _IN_THE_STREET)
        return poses

    def look(self, rng: np.random.Generator) -> Look:
        """Draw one person's appearance."""
        look = draw_look(rng)
        if _drawn(rng, self.coats)[0]:
            look = _in_coat(look, rng)
        return _darkened(look, rng) if _drawn(rng, self.dark)[0] else look

    def light(self, rng: np.random.Generator, up: np.ndarray) -> np.ndarray:
        """Light table `(6, 3)` float32 for the vertical `up` (3,) in optical axes."""
        light = draw_light(rng, up)
        return soften(light, rng) if _drawn(rng, self.overcast)[0] else light


def _drawn(rng: np.random.Generator, share: float, count: int = 1) -> np.ndarray:
    """Draw `(count,)` bool; a share of 0 leaves `rng` as it was, so that old seeds keep people."""
    return rng.random(count) < share if share > 0 else np.zeros(count, bool)


def _in_coat(look: Look, rng: np.random.Generator) -> Look:
    cuts = look.cuts.copy()
    cuts[ap.COAT], cuts[ap.SKIRT] = 1, rng.uniform(0.35, 1.4)
    cuts[ap.SKIRT_FLARE], cuts[ap.SLEEVE] = rng.uniform(0, 0.05), rng.uniform(1.9, 2.1)
    cuts[ap.LOOSE_TOP] = rng.uniform(0.012, 0.04)
    return replace(look, cuts=cuts)


def _darkened(look: Look, rng: np.random.Generator) -> Look:
    cloths = look.cloths.copy()
    for slot in (ap.TOP, ap.BOTTOM):
        cloths[slot, :3] = rng.uniform(0.004, 0.05) * rng.normal(1, 0.12, 3)
        cloths[slot, ap.PATTERN] = ap.PLAIN
    return replace(look, cloths=np.clip(cloths, 0, None))
