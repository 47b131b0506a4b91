# SPDX-License-Identifier: Apache-2.0
"""A standing person's joints, the test vector of the digitizer's sheet (section 2)."""

from __future__ import annotations

import numpy as np

from hmr_ros.perception.digitizer.joints import Joints

SIDE = 2048
POINTS = np.array([
    (1024, 330), (1050, 300), (998, 300), (1090, 320), (958, 320), (1190, 520), (858, 520),
    (1250, 760), (800, 760), (1290, 980), (760, 980), (1110, 1000), (938, 1000), (1120, 1360),
    (930, 1360), (1130, 1700), (920, 1700), (1190, 1790), (1220, 1770), (1120, 1740), (860, 1790),
    (830, 1770), (930, 1740), (1300, 1060), (1310, 1065), (1315, 1060), (1320, 1050), (750, 1060),
    (740, 1065), (735, 1060), (730, 1050)], np.float64)
#: a, b, tx, ty of the similarity, and x, y of the patch's centre in the image.
PLACES: dict[str, tuple[float, ...]] = {
    'head': (1.000000, 0, 0, 0.719727, 1023.50, 286.50),
    'torso': (0.720242, 0, 0, 0.185687, 1023.50, 759.50),
    'left_upper_arm': (0.970142, 0.242536, -0.276642, 0.256984, 1234.50, 699.50),
    'left_lower_arm': (0.932270, 0.185314, -0.252965, -0.019639, 1294.92, 991.12),
    'right_upper_arm': (0.972018, -0.234904, 0.273190, 0.259494, 814.00, 699.50),
    'right_lower_arm': (0.932270, -0.185314, 0.251144, -0.019277, 754.08, 991.12),
    'left_upper_leg': (0.710563, 0.019738, -0.083576, -0.141254, 1149.50, 1223.56),
    'left_lower_leg': (0.846327, 0.024892, -0.094613, -0.420660, 1152.83, 1528.67),
    'right_upper_leg': (0.710760, -0.015795, 0.083500, -0.140918, 898.75, 1223.75),
    'right_lower_leg': (0.846327, -0.024892, 0.092960, -0.420611, 896.17, 1528.67),
    'left_foot': (0.445217, 0.593623, 0.359565, -0.397391, 1164.50, 1749.50),
    'right_foot': (0.445217, -0.593623, -0.360435, -0.396232, 884.50, 1749.50)}


def person(*missing: int, side: int = SIDE) -> Joints:
    """The person in a square image of `side` pixels, without the joints `missing`."""
    found = np.ones(len(POINTS), bool)
    found[list(missing)] = False
    points = POINTS * side / SIDE
    # What lies where a joint is missing must not matter.
    points[list(missing)] = 1e6
    return Joints(points, found)
