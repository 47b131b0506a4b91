# SPDX-License-Identifier: Apache-2.0
"""Whole bodies of datasets in their official formats (bidrn sheet, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from hmr_ros.body.whole_body import WholeBodyModel
from hmr_ros.body.whole_body_joints import BODY_JOINTS, HAND_JOINTS
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation.bidrn import (
    check_body, Contender, contender, meshes_of, others_errors, report_of, show)
from hmr_ros.evaluation.datasets import agora, ehf
from hmr_ros.evaluation.datasets.people import read_image
from hmr_ros.evaluation.datasets.whole_people import LabelledMesh
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.whole_body_metrics import WholeBodyMeasures
from hmr_ros.perception.crops import crop_person
from hmr_ros.perception.whole_body import CROPS, pose_of, VIRTUAL_FOCAL, VIRTUAL_HEIGHT

READERS = {'ehf': ehf.read, 'agora': agora.read}


def run_evaluation(
        engines: Sequence[str], dataset: str, folder: str | Path, body: WholeBodyModel,
        limit: int | None = None, out: str | Path | None = None,
        console: Console | None = None) -> dict[str, Any]:
    """
    Evaluate networks on a dataset of READERS and return the report.

    engines  as of `bidrn.run_evaluation`
    body     the model of the labels, which the networks must know, too
    limit    most people to look at, None for all

    Raises EvaluationError for an unknown dataset, a wrong file, or networks of another body.
    """
    console, surroundings = console or Console(), context()
    people = list(itertools.islice(read_meshes(dataset, Path(folder)), limit))
    contenders, measures = [contender(name) for name in engines], WholeBodyMeasures(body)
    for one in contenders:
        check_body(one, body)
    found = []
    for one in contenders:
        with console.status(f'bodies of {one.name}'):
            found.append(np.concatenate([_errors(one, person, measures) for person in people]))
    means = others_errors(*_as_they_are(people, body), len(people), measures)
    report = {'samples': len(people), **report_of(contenders, found, means, dataset),
              **surroundings}
    show(report, console)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(report, Path(out) / 'report.json')
        if dataset == 'agora':
            agora.write_predictions(
                Path(out) / 'predictions.zip', predictions(contenders[0], people, body))
    return report


def predictions(
        one: Contender, people: Sequence[LabelledMesh],
        body: WholeBodyModel) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """What AGORA's server wants of each person, see `agora.write_predictions`."""
    for person in people:
        outputs = one.run({'image': crop_of(person, one.shape)})
        transform = CROPS.place(person.box, one.shape[0])
        vertices, joints = body.posed(
            pose_of(outputs), outputs['shape'], outputs['expression'], outputs['transl'])
        joints = joints[0, :agora.JOINTS]
        # The virtual picture is as high as the crop, and shares its middle.
        pixel = VIRTUAL_FOCAL / VIRTUAL_HEIGHT * joints[:, :2] / joints[:, 2:] + 0.5
        in_picture = transform.to_image(one.shape[0] * pixel)
        scale = read_image(person.file).shape[1] / agora.WIDTH
        yield person.file.name, int(person.person_id), {
            'joints': in_picture / scale, 'verts': vertices[0], 'allSmplJoints3d': joints,
            'params': parameters(outputs)}


def parameters(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """SMPL-X parameters by their names in the package smplx, each `(N, ...)`."""
    pose = pose_of(outputs)
    parts = np.split(pose, [1, BODY_JOINTS, BODY_JOINTS + HAND_JOINTS, -1], axis=1)
    names = ('global_orient', 'body_pose', 'left_hand_pose', 'right_hand_pose', 'jaw_pose')
    return {**{name: part.reshape(len(pose), -1) for name, part in zip(names, parts)},
            'betas': outputs['shape'], **{name: outputs[name] for name in (
                'expression', 'transl')}}


def _as_they_are(
        people: Sequence[LabelledMesh], body: WholeBodyModel) -> tuple[np.ndarray, np.ndarray]:
    """Meshes from the pelvis as all three views of `others_errors`, and their sums."""
    meshes = np.stack([person.vertices for person in people])
    meshes = meshes - body.J_regressor[:1] @ meshes
    return np.broadcast_to(meshes, (3, *meshes.shape)), np.broadcast_to(
        meshes.sum(0), (3, *meshes.shape[1:]))


def read_meshes(dataset: str, folder: Path) -> Iterator[LabelledMesh]:
    """Read the people of a dataset of READERS; EvaluationError for another one."""
    if dataset not in READERS:
        raise EvaluationError(f'dataset {dataset!r} has no whole bodies here; expected one of '
                              f'{", ".join(READERS)}')
    if not folder.is_dir():
        raise EvaluationError(f'folder {folder} of dataset {dataset} is not there')
    return READERS[dataset](folder)


def crop_of(person: LabelledMesh, shape: tuple[int, int]) -> np.ndarray:
    """Cut the crop `(1, 3, H, W)` of a person as the live path does, RGB 0 to 1, float32."""
    transform = CROPS.place(person.box, shape[0])
    crop = crop_person(read_image(person.file), 'bgr', transform)[:, CROPS.columns(shape[0])]
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / 255


def _errors(one: Contender, person: LabelledMesh, measures: WholeBodyMeasures) -> np.ndarray:
    found = meshes_of(one.run({'image': crop_of(person, one.shape)}), measures.body)
    return measures(found, person.vertices[None])
