# SPDX-License-Identifier: Apache-2.0
"""Sizes in the paper's counting (sheet, section 8 and check 3)."""

from __future__ import annotations

import pytest

torch = pytest.importorskip('torch', reason='networks need torch')
from hmr_ros.evaluation.complexity import count_as_paper, describe, PAPER, Variant  # noqa: E402
from hmr_ros.networks.keypoint_guided import KeypointGuided  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize('variant, gmacs, parameters_m', [
    (Variant(), 0.8046, 10.8992), (Variant('resnet34'), 5.0029, 26.0347),
    (Variant('hrnet_w48'), 23.3812, 88.9691), (Variant('resnet34', 29), 4.8653, 24.0915)], ids=str)
def test_counts_of_the_sheet(variant: Variant, gmacs: float, parameters_m: float) -> None:
    macs, parameters = count_as_paper(KeypointGuided(variant))
    assert macs / 1e9 == pytest.approx(gmacs, rel=0.01)
    assert parameters / 1e6 == pytest.approx(parameters_m, abs=1e-4)


def test_published_numbers_stand_beside_ours() -> None:
    facts = describe(Variant('resnet34'))
    assert facts['paper'] == PAPER[Variant('resnet34')] and facts['filter_gmacs'] == 0
    assert facts['as_paper_counts']['gmacs'] == pytest.approx(facts['paper']['gmacs'], rel=0.01)
