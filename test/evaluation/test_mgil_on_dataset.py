# SPDX-License-Identifier: Apache-2.0
"""Pose networks on small folders in the layout of COCO and MPII, whose pictures tell the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import io

from hmr_ros.evaluation import mgil_on_dataset
from hmr_ros.evaluation.datasets import mpii, read_dataset
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.mgil_contender import Contender
from hmr_ros.evaluation.mgil_on_dataset import found_in, mpii_crop, Request, run_evaluation
from hmr_ros.perception.person import PersonBox

SIZE, RATIO = 64, 2
#: of a box whose crop has its own pixels.
SIDE = SIZE / 1.25
WIDTH, HEIGHT = 260, 180


def level(number: int) -> int:
    """Grey of the pixel that is keypoint `number`; pixels of others' people are grey, too."""
    return 60 + 10 * number


def sees_levels(keypoints: int, peak: float = 20.0) -> Contender:
    """Find each keypoint at the pixel of its level that is nearest to the middle of the crop."""
    grid = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1)
    middle = -np.linalg.norm(grid - SIZE / 2, axis=-1)

    def run(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        crops = np.rint(255 * feeds['image'][:, 0]).astype(int)
        logits = np.zeros((2, len(crops), keypoints, RATIO * SIZE), np.float32)
        for i, crop in enumerate(crops):
            for k in range(keypoints):
                hits = crop == level(k)
                if hits.any():
                    row, column = np.unravel_index(
                        np.where(hits, middle, -1e9).argmax(), hits.shape)
                    logits[0, i, k, RATIO * column] = logits[1, i, k, RATIO * row] = peak
        return {'simcc_x': logits[0], 'simcc_y': logits[1]}
    return Contender('levels', 'a' * 64, run, SIZE, RATIO, 'max', (0, 0, 0), (1, 1, 1),
                     keypoints=keypoints)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is that of a network that reads the pictures."""
    monkeypatch.setattr(mgil_on_dataset, 'contender', lambda name, names: sees_levels(len(names)))


def paint(path: Path, people: list[np.ndarray]) -> np.ndarray:
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for points in people:
        for number, (x, y) in enumerate(points.astype(int)):
            picture[y, x] = level(number)
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), picture)
    return picture


def people_at(rng: np.random.Generator, centres: list[tuple[int, int]], count: int) -> list[Any]:
    """Keypoints, each at a pixel of its own around the centres."""
    places = np.stack(np.meshgrid(np.arange(-20, 21), np.arange(-20, 21)), -1).reshape(-1, 2)
    return [np.array(centre) + rng.permutation(places)[:count] for centre in centres]


CENTRES = [(50, 60), (120, 90), (200, 100)]


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    rng, images, annotations = np.random.default_rng(0), [], []
    for picture in (7, 9):
        people = people_at(rng, CENTRES, 17)
        paint(tmp_path / 'val2017' / f'{picture:012d}.png', people)
        images.append({'id': picture, 'file_name': f'{picture:012d}.png'})
        for centre, points in zip(CENTRES, people):
            annotations.append({
                'id': len(annotations) + 1, 'image_id': picture, 'category_id': 1, 'iscrowd': 0,
                'area': 1500.0, 'num_keypoints': 17,
                'bbox': [*(np.array(centre) - SIDE / 2), SIDE, SIDE],
                'keypoints': np.column_stack([points, 2 * np.ones(17)]).ravel().tolist()})
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations' / 'person_keypoints_val2017.json').write_text(
        json.dumps({'images': images, 'annotations': annotations}))
    return tmp_path


def coco_row(folder: Path, **request: Any) -> dict[str, Any]:
    return run_evaluation(['levels'], Request('coco', folder, **request))['rows'][0]


def test_who_reads_the_keypoints_of_coco_has_full_marks(judged: None, coco_folder: Path) -> None:
    row = coco_row(coco_folder)
    assert row['samples'] == 6 and row['ap'] == row['ar'] == row['ap_medium'] == 100
    assert np.isnan(row['ap_large'])
    assert coco_row(coco_folder, limit=1)['samples'] == 3


def detections(folder: Path, rows: list[tuple[int, tuple[int, int], float]]) -> Path:
    path = folder / 'detections.json'
    path.write_text(json.dumps([
        {'image_id': picture, 'category_id': 1, 'score': score,
         'bbox': [*(np.array(centre) - SIDE / 2), SIDE, SIDE]} for picture, centre, score in rows]
        + [{'image_id': 7, 'category_id': 18, 'score': 1.0, 'bbox': [0, 0, 9, 9]},
           {'image_id': 7, 'category_id': 1, 'score': 1.0, 'bbox': [5, 5, 0, 9]}]))
    return path


def test_boxes_of_a_detector_count_by_their_scores(judged: None, coco_folder: Path) -> None:
    everybody = [(picture, centre, 0.8) for picture in (7, 9) for centre in CENTRES]
    row = coco_row(coco_folder, detections=detections(coco_folder, everybody))
    assert row['ap'] == 100 and row['samples'] == 6
    # A third of them is missed.
    missed = [one for one in everybody if one[1] != CENTRES[1]]
    row = coco_row(coco_folder, detections=detections(coco_folder, missed))
    assert row['ar'] == pytest.approx(100 * 4 / 6) and row['ap'] == pytest.approx(66.7, abs=1)
    # Whom a detector sees in an empty corner has no keypoints, so no score either.
    ghost = [(7, (30, 140), 1.0), *everybody]
    assert coco_row(coco_folder, detections=detections(coco_folder, ghost))['ap'] == 100
    # Somebody seen between two people, whose keypoints are theirs, and who is not one of them.
    between = [(7, (85, 75), 1.0), *everybody]
    assert coco_row(coco_folder, detections=detections(coco_folder, between))['ap'] < 100


def test_copies_of_a_person_are_found_once(judged: None, coco_folder: Path) -> None:
    twice = [(7, centre, score) for centre in CENTRES for score in (0.9, 0.8)]
    assert coco_row(coco_folder, detections=detections(coco_folder, twice))['samples'] == 3


@pytest.mark.parametrize('content, message', [
    ('[', 'detections.json cannot be read'),
    ('[{"image_id": 7}]', 'detections.json: field category_id is missing'),
    ('[{"image_id": 8, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 1}]', 'image_id 8'),
    ('[{"image_id": 7, "category_id": 1, "bbox": [0, 0, 5], "score": 1}]', 'field bbox')])
def test_wrong_detections_are_refused_by_file_and_field(
        content: str, message: str, judged: None, coco_folder: Path) -> None:
    path = coco_folder / 'detections.json'
    path.write_text(content)
    with pytest.raises(EvaluationError, match=message):
        coco_row(coco_folder, detections=path)


def test_a_person_s_score_is_the_box_s_times_its_keypoints(tmp_path: Path) -> None:
    points = people_at(np.random.default_rng(1), CENTRES[:1], 17)
    picture = paint(tmp_path / 'one.png', points)
    corner = np.array(CENTRES[0]) - SIDE / 2
    boxes = [PersonBox(np.float32([*corner, *(corner + SIDE)]), 0.5),
             PersonBox(np.float32([900, 10, 960, 70]), 1.0)]
    one, = found_in(sees_levels(17, peak=5.0), picture, boxes)
    np.testing.assert_allclose(one.keypoints, points[0])
    peak = np.exp(5) / (np.exp(5) + RATIO * SIZE - 1)
    assert one.score == pytest.approx(0.5 * peak, rel=1e-5)
    assert one.box_area == pytest.approx(SIZE ** 2)


@pytest.fixture
def mpii_folder(tmp_path: Path) -> Path:
    scale = SIDE / mpii.SIZE_OF_SCALE

    def structs(rows: list[dict[str, Any]]) -> np.ndarray:
        array = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
        for index, row in enumerate(rows):
            array[0, index] = tuple(row.values())
        return array
    people = people_at(np.random.default_rng(2), CENTRES, 16)
    paint(tmp_path / 'images' / 'one.png', people)
    humans = []
    for (x, y), points in zip(CENTRES, people):
        point = structs([{'x': 1.0 + px, 'y': 1.0 + py, 'id': i, 'is_visible': 1}
                         for i, (px, py) in enumerate(points)])
        # The crop's middle lies below the position that is given.
        humans.append({'x1': 11, 'y1': 11, 'x2': 14, 'y2': 15, 'annopoints': {'point': point},
                       'scale': scale, 'objpos': {'x': x + 1.0, 'y': y + 1.0 - 15 * scale}})
    humans[2]['x1'] = np.zeros((0, 0))
    io.savemat(tmp_path / mpii.FILE, {'RELEASE': {
        'annolist': structs([{'image': {'name': 'one.png'}, 'annorect': structs(humans)}]),
        'img_train': np.array([1])}})
    return tmp_path


def test_who_reads_the_keypoints_of_mpii_has_full_marks(judged: None, mpii_folder: Path) -> None:
    report = run_evaluation(['levels'], Request('mpii', mpii_folder))
    row = report['rows'][0]
    # One has no head's box.
    assert row['samples'] == 2 and report['boxes'] == 'true'
    assert [row[name] for name in ('head', 'shoulder', 'ankle', 'mean')] == [100] * 4


def test_crops_of_mpii_are_those_of_the_sheet(mpii_folder: Path) -> None:
    person = next(read_dataset('mpii', mpii_folder, 'train'))
    crop = mpii_crop(person, SIZE)
    assert (crop.center_x, crop.center_y) == pytest.approx(CENTRES[0], abs=1e-4)
    assert crop.side == pytest.approx(SIZE, rel=1e-6)


def test_a_mirrored_look_is_passed_on(
        judged: None, coco_folder: Path, capsys: pytest.CaptureFixture) -> None:
    report = run_evaluation(['levels'], Request('coco', coco_folder, look='flip'))
    # These levels do not change sides in a mirror, so left and right are confused.
    assert report['look'] == 'flip' and report['rows'][0]['ap'] < 100
    assert 'ap75' in capsys.readouterr().out


@pytest.mark.parametrize('request_, message', [
    (Request('3dpw', Path('.')), 'expected one of coco, mpii'),
    (Request('coco', Path('.'), 'test'), 'no split .test.; expected one of train, validation'),
    (Request('mpii', Path('.'), detections=Path('x')), 'leave detections out')])
def test_requests_that_cannot_be_met_are_refused(
        request_: Request, message: str, judged: None) -> None:
    with pytest.raises(EvaluationError, match=message):
        run_evaluation(['levels'], request_)
