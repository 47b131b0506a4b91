# SPDX-License-Identifier: Apache-2.0
"""What people wear: skin, hair and garments drawn at random, as numbers for the shader."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: rows of the cloth table.
SKIN, HAIR, TOP, BOTTOM, SHOE, SOCK, INNER, HAT, GLOVE, BAG = range(10)
CLOTHS = 10
#: columns of the cloth table: two colours (linear RGB), pattern and its scale, strength of folds
#: and of fine grain, gloss.
COLOUR, SECOND, PATTERN, SCALE, FOLDS, GRAIN, GLOSS = 0, 3, 6, 7, 8, 9, 10
CLOTH_COLUMNS = 11
#: patterns.
PLAIN, ACROSS, ALONG, CHECKS, BLOTCHES, YOKE, LOGO, BANDS = range(8)
#: entries of the cut vector: where garments end. Sleeves and legs in limb coordinates, heights in
#: metres from the pelvis of the rest body, widths in metres.
(SLEEVE, TROUSER, HEM, NECK, NECK_DEPTH, OPEN, SOCK_TOP, SHOE_TOP, HAIRLINE, HAT_LINE, GLOVE_END,
 HAIR_LENGTH, SKIRT, SKIRT_FLARE, LOOSE_TOP, LOOSE_BOTTOM, HAIR_PUFF, BEARD, BAG_SIZE,
 WAIST, COAT) = range(21)
CUTS = 21


@dataclass(frozen=True)
class Look:
    """One person's appearance: cloth table `(10, 11)`, cut vector `(21,)` and a texture seed."""

    cloths: np.ndarray
    cuts: np.ndarray
    seed: int


_SKINS = np.float64([(250, 216, 196), (238, 196, 166), (224, 172, 138), (198, 142, 104),
                     (164, 110, 76), (124, 80, 54), (88, 56, 40), (62, 40, 30)]) / 255
_HAIRS = np.float64([(22, 18, 16), (40, 28, 22), (66, 44, 30), (104, 72, 44), (158, 118, 72),
                     (196, 164, 112), (140, 138, 136), (206, 204, 200), (120, 52, 28)]) / 255
_PALETTE = np.float64([
    (20, 20, 24), (34, 36, 42), (58, 60, 66), (96, 98, 102), (150, 152, 154), (236, 236, 234),
    (250, 250, 250), (26, 34, 62), (40, 58, 100), (70, 96, 148), (120, 150, 190), (66, 60, 52),
    (110, 92, 70), (168, 148, 116), (206, 192, 164), (60, 70, 52), (90, 102, 70), (128, 28, 34),
    (186, 40, 42), (214, 108, 40), (226, 190, 60), (40, 110, 70), (30, 120, 130), (96, 60, 120),
    (206, 130, 150), (230, 190, 196)]) / 255


def _linear(colour: np.ndarray) -> np.ndarray:
    return np.clip(colour, 0.004, 1.0) ** 2.2


def _cloth_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw one colour: mostly what people buy, sometimes anything."""
    if rng.random() < 0.22:
        colour = rng.uniform(0, 1, 3)
        return _linear(colour.mean() + (colour - colour.mean()) * rng.uniform(0.3, 1.3))
    return _linear(_PALETTE[rng.integers(len(_PALETTE))] * rng.uniform(0.75, 1.2)
                   + rng.normal(0, 0.03, 3))


def _cloth(rng: np.random.Generator, fancy: float, folds: float) -> np.ndarray:
    """One row of the cloth table; `fancy` is the chance of a pattern."""
    row = np.zeros(CLOTH_COLUMNS)
    row[COLOUR:COLOUR + 3] = _cloth_colour(rng)
    row[SECOND:SECOND + 3] = _cloth_colour(rng)
    if rng.random() < fancy:
        row[PATTERN] = rng.choice([ACROSS, ALONG, CHECKS, BLOTCHES, YOKE, LOGO],
                                  p=[.22, .10, .18, .18, .10, .22])
    row[SCALE] = np.exp(rng.uniform(np.log(0.018), np.log(0.11)))
    row[FOLDS] = folds * rng.uniform(0.4, 1.3)
    row[GRAIN] = rng.uniform(0.0, 0.16)
    row[GLOSS] = rng.choice([0.0, 0.03, 0.15], p=[.6, .3, .1])
    return row


def _bare(colour: np.ndarray, grain: float, gloss: float) -> np.ndarray:
    row = np.zeros(CLOTH_COLUMNS)
    row[COLOUR:COLOUR + 3] = row[SECOND:SECOND + 3] = colour
    row[SCALE], row[GRAIN], row[GLOSS] = 0.02, grain, gloss
    return row


def _skin_and_hair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    tone = rng.uniform(0, len(_SKINS) - 1.001)
    low, share = int(tone), tone % 1
    skin = _SKINS[low] * (1 - share) + _SKINS[low + 1] * share
    hair = _HAIRS[rng.integers(len(_HAIRS) if tone < 3.5 else 3)]
    if rng.random() < 0.04:
        hair = rng.uniform(0, 1, 3)
    return (_bare(_linear(skin + rng.normal(0, 0.015, 3)), 0.06, rng.uniform(0.03, 0.12)),
            _bare(_linear(hair), 0.5, 0.12))


def _head_cuts(rng: np.random.Generator, cuts: np.ndarray) -> None:
    style = rng.choice(['bald', 'short', 'full', 'long'], p=[.07, .45, .22, .26])
    cuts[HAIRLINE] = {'bald': 9, 'short': rng.uniform(-.05, .22), 'full': rng.uniform(-.12, .12),
                      'long': rng.uniform(-.15, .05)}[style]
    cuts[HAIR_PUFF] = {'bald': 0, 'short': rng.uniform(.003, .012), 'full': rng.uniform(.012, .04),
                       'long': rng.uniform(.006, .02)}[style]
    cuts[HAIR_LENGTH] = rng.uniform(0.06, 0.40) if style == 'long' else 0.0
    cuts[HAT_LINE] = rng.uniform(0.25, 0.55) if rng.random() < 0.14 else 9.0
    cuts[BEARD] = rng.uniform(0.2, 0.9) if style != 'long' and rng.random() < 0.3 else 0.0


def _body_cuts(rng: np.random.Generator, cuts: np.ndarray) -> None:
    cuts[SLEEVE] = rng.choice([rng.uniform(-.05, .15), rng.uniform(.35, .8), rng.uniform(1.1, 1.7),
                               rng.uniform(1.9, 2.1)], p=[.08, .34, .06, .52])
    cuts[TROUSER] = rng.choice([rng.uniform(.25, .6), rng.uniform(.7, 1.05), rng.uniform(1.2, 1.7),
                                rng.uniform(1.85, 2.08)], p=[.07, .15, .05, .73])
    cuts[WAIST] = rng.uniform(-0.02, 0.09)
    cuts[HEM] = cuts[WAIST] - rng.choice([rng.uniform(-.01, .04), rng.uniform(.05, .16),
                                          rng.uniform(.2, .5)], p=[.35, .53, .12])
    cuts[NECK], cuts[NECK_DEPTH] = rng.uniform(-0.03, 0.06), rng.choice(
        [0.0, rng.uniform(.02, .14)])
    cuts[OPEN] = rng.choice([0.0, rng.uniform(.012, .09)], p=[.72, .28])
    cuts[LOOSE_TOP] = rng.choice([rng.uniform(.002, .010), rng.uniform(.010, .034)], p=[.55, .45])
    cuts[LOOSE_BOTTOM] = rng.choice([rng.uniform(.002, .008), rng.uniform(.010, .03)], p=[.5, .5])
    cuts[SHOE_TOP], cuts[SOCK_TOP] = rng.choice([1.97, 1.9, 1.6], p=[.6, .3, .1]), rng.choice(
        [2.0, 1.85, 1.4])
    cuts[GLOVE_END] = rng.uniform(1.8, 2.0) if rng.random() < 0.05 else 9.0


def _extras(rng: np.random.Generator, cuts: np.ndarray) -> None:
    """Skirts, dresses, long coats and bags."""
    if rng.random() < 0.17:
        cuts[SKIRT], cuts[SKIRT_FLARE] = rng.uniform(0.45, 1.85), rng.uniform(0.0, 0.11)
        cuts[TROUSER] = rng.choice([0.2, 2.02], p=[.7, .3])
    if rng.random() < 0.14:
        cuts[BAG_SIZE] = rng.uniform(0.7, 1.3)


def draw_look(rng: np.random.Generator) -> Look:
    """Draw one person's appearance."""
    cuts, cloths = np.zeros(CUTS), np.zeros((CLOTHS, CLOTH_COLUMNS))
    _head_cuts(rng, cuts)
    _body_cuts(rng, cuts)
    _extras(rng, cuts)
    cloths[SKIN], cloths[HAIR] = _skin_and_hair(rng)
    cloths[TOP] = _cloth(rng, 0.45, 0.75)
    cloths[BOTTOM] = _cloth(rng, 0.10, 0.65)
    for slot, folds in ((SHOE, 0.1), (SOCK, 0.1), (INNER, 0.3), (HAT, 0.1), (GLOVE, 0.1),
                        (BAG, 0.2)):
        cloths[slot] = _cloth(rng, 0.15, folds)
    if rng.random() < 0.75:  # most shoes are black, brown, grey or white
        cloths[SHOE, :3] = _linear(_PALETTE[rng.choice([0, 1, 2, 5, 6, 11, 12])])
        cloths[SHOE, PATTERN] = PLAIN
    if rng.random() < 0.18:  # overalls, dresses, uniforms, bare legs under a coat
        cloths[BOTTOM] = cloths[TOP]
    if rng.random() < 0.04:  # high-visibility vest
        cloths[TOP, :3] = _linear(np.float64([0.75, 0.95, 0.1]) if rng.random() < 0.6
                                  else np.float64([1.0, 0.45, 0.08]))
        cloths[TOP, SECOND:SECOND + 3], cloths[TOP, PATTERN] = 0.65, BANDS
        cuts[SLEEVE] = rng.choice([0.05, 2.0])
    return Look(cloths.astype(np.float32), cuts.astype(np.float32), int(rng.integers(1 << 30)))
