# SPDX-License-Identifier: Apache-2.0
"""Rows of the paper's tables as configurations (sheet, sections 6 and 8)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hmr_ros.networks.bidrn.layout import Plan, PLANS
from hmr_ros.networks.bidrn.residuals import (
    BASE, DOWN_SAMPLE, DOWN_SCALE, FUSION_DOWN, FUSION_UP, KINDS, METHODS)

PARTS = ('body', 'hand', 'face')
CHOICES: dict[str, tuple[str, ...]] = {
    'shortcut': ('full', 'binary', 'none'), 'shortcut_pool': ('stride', 'average'),
    'identity': ('raw', 'clipped'), 'boxes': ('binary', 'full'),
    'box_deconv3': ('full', 'none', 'binary'), 'plan': tuple(PLANS), 'method': tuple(METHODS)}


@dataclass(frozen=True)
class Variant:
    """
    Which network.

    plan           sizes, of `layout.PLANS`
    binary         parts whose encoder is binary, of PARTS
    residuals      kinds of modules that have a shortcut and RPReLU of their own, of
                   `residuals.KINDS`; the others are dense binary convolutions
    shortcut       around blocks that change the shape: full, a convolution of floats; binary; none
    shortcut_pool  how it halves the map: by its stride, or average before it
    identity       around other blocks: raw, or clipped to +-1
    boxes          binary: two deconvolutions and three linear layers of the box network; full
    method         whose rules modules without a shortcut of their own follow, of
                   `residuals.METHODS`; others than bidrn's are for networks of these alone
    box_deconv3    its third deconvolution: full, binary, or none, which halves the map of boxes
    """

    plan: str = 'published'
    binary: tuple[str, ...] = PARTS
    residuals: tuple[str, ...] = KINDS
    shortcut: str = 'full'
    shortcut_pool: str = 'stride'
    identity: str = 'raw'
    boxes: str = 'binary'
    box_deconv3: str = 'full'
    method: str = 'bidrn'

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f'{name} of bidrn is {getattr(self, name)!r}; allowed: '
                                 f'{", ".join(allowed)}')
        for name, allowed in (('binary', PARTS), ('residuals', KINDS)):
            unknown = set(getattr(self, name)) - set(allowed)
            if unknown:
                raise ValueError(f'{name} of bidrn has {", ".join(sorted(unknown))}; allowed: '
                                 f'{", ".join(allowed)}')
        if self.boxes == 'full' and self.box_deconv3 == 'binary':
            raise ValueError('box_deconv3 of bidrn is binary, but boxes is full; choose boxes: '
                             'binary')
        if self.method != 'bidrn' and self.residuals:
            raise ValueError(f'method of bidrn is {self.method}, but residuals is '
                             f'{", ".join(self.residuals)}; choose none of them')

    @property
    def sizes(self) -> Plan:
        """Sizes of everything."""
        return PLANS[self.plan]


#: everything in floats, the published baseline.
HAND4WHOLE = Variant(binary=(), boxes='full')
_BINARY_SHORTCUT = Variant(shortcut='binary')
#: rows of the paper's tables by name, for programs.
NAMED: dict[str, Variant] = {
    'hand4whole': HAND4WHOLE,
    **{method: Variant(residuals=(), shortcut='binary', boxes='full', method=method)
       for method in METHODS if method != 'bidrn'},
    'base_lcr': Variant(residuals=(BASE,)),
    'down_scale': Variant(residuals=(BASE, DOWN_SCALE)),
    'fusion_up': Variant(residuals=(BASE, DOWN_SCALE, FUSION_UP)),
    'fusion_down': Variant(residuals=(BASE, DOWN_SCALE, FUSION_UP, FUSION_DOWN)),
    'bidrn': Variant(residuals=(BASE, DOWN_SCALE, FUSION_UP, FUSION_DOWN, DOWN_SAMPLE)),
    'no_shortcut': Variant(shortcut='none'),
    'binary_shortcut': _BINARY_SHORTCUT,
    'binary_shortcut_full_boxes': replace(_BINARY_SHORTCUT, boxes='full'),
    'body_only': Variant(binary=('body',)),
    'hand_only': Variant(binary=('hand',)),
    'face_only': Variant(binary=('face',))}


def compact(row: str) -> Variant:
    """Give a row of NAMED the compact plan; its box network has two deconvolutions."""
    return replace(NAMED[row], plan='compact', box_deconv3='none')
