# SPDX-License-Identifier: Apache-2.0
"""People of datasets that show whole bodies, hands and faces included, as meshes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelledMesh:
    """
    One person of a picture.

    file       the picture
    person_id  tells people of one picture apart
    box        (4,)    x0, y0, x1, y1 in pixels, float32
    vertices   (V, 3)  metres, axes of the camera, float32; any translation
    """

    file: Path
    person_id: str
    box: np.ndarray
    vertices: np.ndarray
