# SPDX-License-Identifier: Apache-2.0
"""What refining bodies by 2D keypoints brings, on held-out synthetic people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hmr_ros.body import load_body
from hmr_ros.body.coco import face_vertices, LIMBS
from hmr_ros.body.model import BodyModel
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation import held_out, metrics
from hmr_ros.evaluation.mgil_contender import Contender, contender, keypoints_in
from hmr_ros.evaluation.prediction import coarsened
from hmr_ros.evaluation.subject import Subject
from hmr_ros.perception import rotations
from hmr_ros.perception.camera import Camera
from hmr_ros.perception.crops import CropTransform
from hmr_ros.perception.person import Person, PersonBox, PersonKeypoints
from hmr_ros.perception.posing import smpl_pose
from hmr_ros.perception.recoveries import recovery_for
from hmr_ros.perception.refinement import Refiner
from hmr_ros.perception.simcc import COCO_NAMES, COUNTED_FROM
from hmr_ros.runtime import load_engine
from hmr_ros.training.mgil.people import CocoLabels, SEEN, UNLABELLED
from hmr_ros.training.synthetic import CLEAN

#: standard deviations of labels as keypoints, as shares of the box's longer side.
NOISES = (0.0, 0.02, 0.04, 0.08)
#: the name that asks for labels alone.
LABELS = 'labels'
#: sides of the pictures in pixels, besides the engine's own.
COARSE = (64, 32)


@dataclass(frozen=True)
class Case:
    """
    One held-out person as recovered from a picture, and the truth.

    person, camera  of the picture `image` (S, S, 3) uint8 RGB
    points (17, 2), visibility (17,)  COCO's labels in pixels of the picture
    joints (24, 3)  metres in the optical frame; orient (3, 3): of the pelvis
    """

    image: np.ndarray
    camera: Camera
    person: Person
    points: np.ndarray
    visibility: np.ndarray
    joints: np.ndarray
    orient: np.ndarray

    @property
    def size(self) -> float:
        """Longer side of the box in pixels."""
        return float(np.ptp(self.person.box.reshape(2, 2), axis=0).max())


@dataclass(frozen=True)
class Errors:
    """
    Errors of N people, float64.

    reprojection_px, reprojection_percent  (N,) mean distance of COCO's keypoints of the body from
                     the labels that are seen, in pixels and percent of the box's longer side; NaN
                     for people of whom none is
    mpjpe_mm, pa_mpjpe_mm, orient_deg, place_mm  (N,) of the joints, pelvis on pelvis and after the
                     best similarity, of the pelvis' rotation, and of its place
    """

    reprojection_px: np.ndarray
    reprojection_percent: np.ndarray
    mpjpe_mm: np.ndarray
    pa_mpjpe_mm: np.ndarray
    orient_deg: np.ndarray
    place_mm: np.ndarray

    def means(self) -> dict[str, float]:
        """Mean of each error over the people who have it."""
        return {f.name: float(np.nanmean(getattr(self, f.name))) for f in fields(self)}


#: keypoints of a case, and the generator of what is drawn for them.
Source = Callable[[Case, np.random.Generator], PersonKeypoints]


def run_evaluation(
        engine: str = 'keypoint_guided', keypoints: str = LABELS, samples: int = 500,
        out: str | Path | None = None, console: Console | None = None) -> dict[str, Any]:
    """
    Refine held-out people and return the report of `hmr evaluate keypoint_guided --refine`.

    engine     of bodies, a name in the manifest or a path
    keypoints  a pose engine or weights file of mgil, or LABELS: labels with NOISES only
    samples    held-out synthetic people, in pictures of the engine's size and of COARSE
    """
    console, surroundings, body = console or Console(), context(), load_body()
    subject = Subject.of(load_engine(engine), body)
    sources: dict[str, Source] = {
        f'labels, noise {100 * noise:g} %': noisy_labels(noise) for noise in NOISES}
    if keypoints != LABELS:
        sources[keypoints] = found_by(contender(keypoints, COCO_NAMES))
    with console.status(f'{samples} held-out people'):
        store = held_out.held_out_store(body, samples)
    rows = []
    for pixels in (subject.settings.image_size, *COARSE):
        with console.status(f'people in pictures of {pixels} pixels'):
            rows += rows_of(body, cases(subject, store, pixels), sources, pixels)
    report = {'network': 'keypoint_guided', 'engine': subject.engine.name, 'keypoints': keypoints,
              'samples': samples, 'rows': rows, **surroundings}
    show(report, console)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(report, Path(out) / 'report.json')
    return report


def cases(subject: Subject, store: held_out.CutoutStore, pixels: int) -> list[Case]:
    """Recover the people of a store from their crops, each as a picture of its own."""
    size = subject.settings.image_size
    people, labels = held_out.held_out_people(store, size, CLEAN), CocoLabels(subject.body)
    recovery = recovery_for(subject.engine, subject.body, 1)
    found = []
    for index in range(len(people)):
        sample = people.sample(index, people.rng(index))
        crop = held_out.crops_of({name: value[None] for name, value in sample.items()})
        camera = _cut(crop.cameras[0], crop.transforms[0])
        box = crop.transforms[0].to_crop(sample['box'].reshape(2, 2)).ravel()
        image = coarsened(crop.images, pixels)[0]
        for person in recovery.recover(image, 'rgb', camera, [PersonBox(np.float32(box))]):
            found.append(Case(
                image, camera, person, *labels.read(sample), sample['joints3d'][:24],
                sample['rotmats'][0]))
    return found


def _cut(camera: Camera, crop: CropTransform) -> Camera:
    """Camera of the picture that a crop is."""
    scale = crop.size / crop.side
    cx, cy = crop.to_crop((camera.cx, camera.cy))
    return Camera(scale * camera.fx, scale * camera.fy, cx, cy, crop.size, crop.size)


def noisy_labels(noise: float) -> Source:
    """Labels as keypoints, hidden ones too, off by `noise` of the box's longer side."""
    def source(case: Case, rng: np.random.Generator) -> PersonKeypoints:
        off = rng.normal(0, noise * case.size, case.points.shape)
        known = case.visibility != UNLABELLED
        points = np.where(known[:, None], case.points + off, np.nan)
        return PersonKeypoints('', 1.0, case.person.box, np.float32(points),
                               np.ones(len(points), np.float32))
    return source


def found_by(one: Contender) -> Source:
    """Keypoints that a network finds, as the live node asks for them."""
    def source(case: Case, rng: np.random.Generator) -> PersonKeypoints:
        crop = CropTransform.from_box(case.person.box, one.size)
        points, scores = keypoints_in(one, [case.image], [crop])
        points = np.where(scores[0, :, None] < COUNTED_FROM, np.nan, points[0])
        return PersonKeypoints('', 1.0, case.person.box, np.float32(points), scores[0])
    return source


def refined(body: BodyModel, found: Sequence[Case], source: Source) -> list[Case]:
    """Refine each person by the keypoints of a source."""
    refiner, people = Refiner(body), []
    for index, case in enumerate(found):
        keypoints = source(case, np.random.default_rng([held_out.SEED, index]))
        people += refiner.refine([case.person], [keypoints], case.camera)
    return [replace(case, person=person) for case, person in zip(found, people)]


def errors_of(body: BodyModel, found: Sequence[Case]) -> Errors:
    """Compare people with the truth."""
    people = [case.person for case in found]
    rotmats, betas = smpl_pose(people)
    face, _ = body.skin_few(face_vertices(body), rotmats, betas)
    shown = np.stack([
        np.linalg.norm(case.camera.project_ahead(np.concatenate(
            [points + case.person.transl, case.person.joints3d[LIMBS]])) - case.points, axis=1)
        for case, points in zip(found, face)])
    seen = np.stack([case.visibility == SEEN for case in found])
    pixels = np.divide(np.sum(shown, axis=1, where=seen), seen.sum(1),
                       out=np.full(len(found), np.nan), where=seen.any(1))
    joints = np.stack([person.joints3d for person in people])
    true = np.stack([case.joints for case in found])
    return Errors(
        pixels, 100 * pixels / [case.size for case in found],
        1000 * metrics.joint_errors(joints, true).mean(1),
        1000 * metrics.aligned_errors(joints, true).mean(1),
        np.degrees(rotations.rotation_angle(
            rotmats[:, 0], np.stack([case.orient for case in found]))),
        1000 * np.linalg.norm(joints[:, 0] - true[:, 0], axis=1))


def rows_of(
        body: BodyModel, found: Sequence[Case], sources: dict[str, Source],
        pixels: int) -> list[dict[str, Any]]:
    """Rows of the report: as recovered, then refined by each source, with the changes."""
    before = errors_of(body, found)
    rows = [{'pixels': pixels, 'keypoints': 'none', 'refined': 0, **before.means()}]
    for name, source in sources.items():
        after = refined(body, found, source)
        errors = errors_of(body, after)
        change = errors.reprojection_percent / before.reprojection_percent
        rows.append({
            'pixels': pixels, 'keypoints': name,
            'refined': sum(new.person is not old.person for new, old in zip(after, found)),
            **errors.means(), 'better_share': float(np.nanmean(change < 1))})
    return rows


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report as a table."""
    table = Table(
        title=f'{report["engine"]}: {report["samples"]} held-out people, refined', box=SIMPLE_HEAD,
        caption='reprojection of seen COCO keypoints, against the labels; percent of the longer '
                'side of the box')
    names = [f.name for f in fields(Errors)]
    for name in ('picture px', 'keypoints', 'refined', *names):
        table.add_column(name.replace('_', ' '),
                         justify='left' if name == 'keypoints' else 'right')
    for row in report['rows']:
        table.add_row(str(row['pixels']), row['keypoints'], str(row['refined']),
                      *(f'{row[name]:.2f}' for name in names))
    console.print(table)
