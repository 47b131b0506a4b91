# SPDX-License-Identifier: Apache-2.0
"""The open bodies' texture layout: an atlas without overlap, even, read and written exactly."""

from __future__ import annotations

from pathlib import Path

from hmr_ros.body import (
    BodyError, load_body, load_texture_layout, load_whole_body, TextureLayout)
from hmr_ros.body.texture_layout import faces_sha256
import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

BODY = load_body()
LAYOUT = load_texture_layout(BODY)


def face_areas() -> np.ndarray:
    """Area of each face in the texture, whose own is 1."""
    a, b, c = (LAYOUT.vt[LAYOUT.ft[:, k]].astype(np.float64) for k in range(3))
    first, second = b - a, c - a
    return np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2


def test_every_face_has_its_place_inside_the_texture() -> None:
    assert LAYOUT.ft.shape == BODY.faces.shape and LAYOUT.ft.dtype == np.int32
    assert LAYOUT.vt.dtype == np.float32 and 0 <= LAYOUT.vt.min() and LAYOUT.vt.max() <= 1
    assert set(np.unique(LAYOUT.ft)) == set(range(len(LAYOUT.vt)))
    assert (face_areas() > 0).all()


def test_faces_do_not_overlap() -> None:
    """The area that they cover together is the sum of theirs only without overlap."""
    covered = (LAYOUT.texel_map(1024).face >= 0).mean()
    assert covered == pytest.approx(face_areas().sum(), rel=2e-3)
    assert covered > 0.4


def test_charts_keep_a_texel_of_128_apart() -> None:
    """So bilinear reading on one chart does not see another."""
    corners = LAYOUT.ft[:, [0, 1, 2, 0]]
    edges = np.concatenate([corners[:, k:k + 2] for k in range(3)])
    size = len(LAYOUT.vt)
    graph = coo_matrix((np.ones(len(edges)), edges.T), (size, size))
    count, chart = connected_components(graph, directed=False)
    assert count < 300
    shown = LAYOUT.texel_map(512).face
    label = np.where(shown >= 0, chart[LAYOUT.ft[shown, 0]], -1)
    for step in range(1, 4):
        for a, b in ((label[step:], label[:-step]), (label[:, step:], label[:, :-step])):
            assert not ((a != b) & (a >= 0) & (b >= 0)).any()


def test_skin_is_spread_evenly() -> None:
    corners = BODY.v_template[BODY.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(
        corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    density = face_areas() / area
    ratio = density / np.median(density)
    weight = area / area.sum()
    assert weight[(ratio > 0.5) & (ratio < 2)].sum() > 0.9


def test_texels_show_the_place_they_say() -> None:
    """Shares and corners lead back to the texel's centre, v up."""
    shown = LAYOUT.texel_map(128)
    rows, columns = np.nonzero(shown.face >= 0)
    places = (LAYOUT.vt[LAYOUT.ft[shown.face[rows, columns]]]
              * shown.share[rows, columns][..., None]).sum(axis=1)
    np.testing.assert_allclose(places[:, 0], (columns + 0.5) / 128, atol=1e-5)
    np.testing.assert_allclose(places[:, 1], 1 - (rows + 0.5) / 128, atol=1e-5)
    assert LAYOUT.texel_map(128) is shown


def test_colours_come_back_from_a_texture() -> None:
    """
    A smooth colour over the body, baked texel by texel, is read again at the vertices.

    Not at the few whose charts are too small to hold the centre of a texel.
    """
    colours = (np.sin(3 * BODY.v_template) / 2 + 0.5).astype(np.float32)
    shown = LAYOUT.texel_map(512)
    texture = (colours[BODY.faces[shown.face]] * shown.share[..., None]).sum(axis=2)
    read = LAYOUT.vertex_colours(LAYOUT.fill(texture), BODY.faces)
    error = np.abs(read - colours).max(axis=1)
    assert np.quantile(error, 0.99) < 0.01


def test_the_top_row_of_a_texture_is_v_one() -> None:
    layout = TextureLayout(
        np.float32([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25]]), np.int32([[0, 1, 2]]))
    texture = np.uint8([[[10], [20]], [[30], [40]]])
    np.testing.assert_array_equal(
        layout.vertex_colours(texture, np.array([[0, 1, 2]])), [[10], [20], [30]])


def test_one_layout_serves_both_open_bodies() -> None:
    whole = load_whole_body()
    np.testing.assert_array_equal(load_texture_layout(whole).ft, LAYOUT.ft)


def obj_of(faces: np.ndarray) -> str:
    lines = [f'v {x} {y} {z}' for x, y, z in BODY.v_template]
    lines += [f'vt {u:.8f} {v:.8f}' for u, v in LAYOUT.vt]
    lines += ['f ' + ' '.join(f'{a + 1}/{b + 1}' for a, b in zip(*rows))
              for rows in zip(faces.tolist(), LAYOUT.ft.tolist())]
    return '\n'.join(lines)


def test_an_obj_template_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'template.obj'
    path.write_text(obj_of(BODY.faces))
    read = load_texture_layout(BODY, path)
    np.testing.assert_allclose(read.vt, LAYOUT.vt, atol=1e-6)
    np.testing.assert_array_equal(read.ft, LAYOUT.ft)


@pytest.mark.parametrize('change, message', [
    ({'f': BODY.faces[:, ::-1]}, 'other faces'), ({'vt': LAYOUT.vt * 2}, 'within 0 to 1'),
    ({'ft': LAYOUT.ft[:5]}, 'ft must be'), ({'ft': LAYOUT.ft + len(LAYOUT.vt)}, 'ft must be'),
    ({'vt': None}, 'lacks vt')])
def test_layouts_of_other_bodies_are_refused(
        change: dict[str, np.ndarray | None], message: str, tmp_path: Path) -> None:
    arrays = {'vt': LAYOUT.vt, 'ft': LAYOUT.ft, 'f': BODY.faces, **change}
    path = tmp_path / 'layout.npz'
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    with pytest.raises(BodyError, match=message):
        load_texture_layout(BODY, path)


@pytest.mark.parametrize('content', ['v 0 0 0\n', 'vt 0 0\nf 1 2 3\n', 'vt a b\nf 1/1 2/1 3/1\n'])
def test_an_obj_without_places_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / 'template.obj'
    path.write_text(content)
    with pytest.raises(BodyError, match='texture coordinates'):
        load_texture_layout(BODY, path)
    with pytest.raises(BodyError, match='cannot be read'):
        load_texture_layout(BODY, tmp_path / 'none.obj')


def test_the_digest_tells_meshes_apart() -> None:
    assert faces_sha256(BODY.faces) != faces_sha256(BODY.faces[::-1])
    assert faces_sha256(BODY.faces) == faces_sha256(BODY.faces.astype(np.int64))
