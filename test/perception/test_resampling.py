# SPDX-License-Identifier: Apache-2.0
"""The numpy bicubic is Pillow's (rsc_net sheet, check 5)."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from hmr_ros.perception import resampling

Image = pytest.importorskip('PIL.Image', reason='the reference resampler is Pillow')


def with_pillow(image, side):
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('side', [24, 32, 52, 96, 176, 300])
def test_crops_become_224_as_in_pillow(side):
    image = noise(side, side)
    difference = np.abs(
        resampling.resize(image, 224).astype(int) - with_pillow(image, 224).astype(int))
    assert difference.max() <= 1 and difference.mean() < 0.01


@settings(deadline=None, max_examples=25)
@given(source=st.integers(1, 90), side=st.integers(1, 90))
def test_any_square_to_any_other(source, side):
    image = noise(source, source, source)
    difference = np.abs(
        resampling.resize(image, side).astype(int) - with_pillow(image, side).astype(int))
    # One level between the passes can be rounded to two behind them, once in thousands.
    assert difference.max() <= 2 and (difference > 1).mean() < 0.002


def test_the_same_size_is_the_same_image():
    image = noise(224, 224)
    np.testing.assert_array_equal(resampling.resize(image, 224), image)


def test_weights_are_kept_and_cannot_be_spoilt():
    weights = resampling.bicubic_weights(40, 224)
    assert weights is resampling.bicubic_weights(40, 224)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    with pytest.raises(ValueError, match='read-only'):
        weights[0] = 0


def test_weights_of_large_images_do_not_fill_the_memory():
    """One of 512 x 2048 has 4 MB, and every size of a person in the image needs another one."""
    weights = resampling.bicubic_weights(2048, 512)
    assert weights is not resampling.bicubic_weights(2048, 512)
    np.testing.assert_array_equal(weights, resampling.bicubic_weights(2048, 512))
