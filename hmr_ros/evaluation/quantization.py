# SPDX-License-Identifier: Apache-2.0
"""Quantizes engines on people: calibration, what each layer costs, and what the whole is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hmr_ros.body import load_body
from hmr_ros.body.model import BodyModel
from hmr_ros.evaluation import held_out, metrics, prediction, rsc_net, scores as scoring
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.picture_crops import picture_feeds
from hmr_ros.perception import rsc_net as resolution
from hmr_ros.perception.crops import BILINEAR, CropStyle
from hmr_ros.perception.mesh_recovery import RecoverySettings, settings_for
from hmr_ros.runtime import load_engine, ManifestEntry, resolve_engine
from hmr_ros.runtime.benchmark import timed_rows
from hmr_ros.runtime.checks import choose_precision, read_network
from hmr_ros.runtime.half_precision import typed_network
from hmr_ros.runtime.manifest import add_entry, file_sha256
from hmr_ros.training.quantization import (
    calibrate, Feeds, float_network, METHODS, quantized, TARGETS)
from hmr_ros.training.rsc_net.ranges import MIDPOINTS
from hmr_ros.training.sensitivity import (
    BODIES, Candidate, Choice, choose_layers, Judge, layer_losses, LayerLoss, Measure, Run,
    runner)
from hmr_ros.training.synthetic import CLEAN, CutoutStore, Recipe, render_cutouts, SyntheticPeople

#: neither training nor `held_out.SEED` draws these people.
SEED = 9002
_BATCH = 16
_SPEED_SECONDS = 2.0


class People(Protocol):
    """
    Labelled crops of one network: `true` points (N, K, D), and how it sees them.

    style        of its crops;  measure: what int8 may cost it
    float_parts  of the names of its layers that stay in float
    """

    true: np.ndarray
    style: CropStyle
    measure: Measure
    float_parts: tuple[str, ...]

    @classmethod
    def of(cls, original: Original, store: CutoutStore, seed: int, recipe: Recipe,
           which: np.ndarray) -> People:
        """Compose the people `which` of a store into crops of a network."""
        ...

    @staticmethod
    def picture_inputs(batch: np.ndarray, boxes: np.ndarray) -> Feeds:
        """Return the inputs for crops and their boxes."""
        ...

    def feeds(self) -> list[Feeds]:
        """Return the inputs of the network, in batches."""
        ...

    def points(self, run: Run) -> np.ndarray:
        """Return the points `(N, K, D)` that a network finds."""
        ...

    def summary(self, run: Run) -> dict[str, float]:
        """Return the errors of a network."""
        ...


@dataclass(frozen=True)
class _Runner:
    """A network as mesh recovery asks for it."""

    run: Run


class _Bodies:
    """Crops of a network of bodies, whose points are joints (N, 24, 3) in metres."""

    measure, float_parts, margin = BODIES, (), held_out.MARGIN

    @classmethod
    def of(cls, original: Original, store: CutoutStore, seed: int, recipe: Recipe,
           which: np.ndarray) -> _Bodies:
        """See People."""
        crowd = SyntheticPeople(
            store, original.settings.image_size, seed, recipe, backgrounds=held_out.BACKGROUNDS,
            margin=cls.margin)
        return cls(original.body, original.settings, held_out.draw_samples(crowd, which))


class _KeypointPeople(_Bodies):
    """Crops of keypoint_guided."""

    style = BILINEAR

    def __init__(
            self, body: BodyModel, settings: RecoverySettings,
            samples: dict[str, np.ndarray]) -> None:
        self._body, self._settings = body, settings
        self._crops = held_out.crops_of(samples)
        self._truth = held_out.truth_of(samples, self._crops)
        self.true = self._truth.joints3d

    def feeds(self) -> list[Feeds]:
        images = self._crops.images
        return [{'image': prediction.normalised(images[i:i + _BATCH], self._settings)}
                for i in range(0, len(images), _BATCH)]

    def points(self, run: Run) -> np.ndarray:
        return self._predict(run).joints3d

    def _predict(self, run: Run) -> prediction.Predictions:
        return prediction.predict(_Runner(run), self._body, self._settings, self._crops)

    def summary(self, run: Run) -> dict[str, float]:
        found = scoring.summary(scoring.score(self._predict(run), self._truth, None))
        return {'pa_mpjpe_mm': found['pa_mpjpe_mm'], 'mpjpe_mm': found['mpjpe_mm'],
                'pck_limbs_percent': found['pck']['limbs']}

    @staticmethod
    def picture_inputs(batch: np.ndarray, boxes: np.ndarray) -> Feeds:
        return {'image': batch}


class _RscPeople(_Bodies):
    """Crops of rsc_net, person after person at another of its five resolutions."""

    style, margin = resolution.CROPS, resolution.MARGIN

    def __init__(
            self, body: BodyModel, settings: RecoverySettings,
            samples: dict[str, np.ndarray]) -> None:
        self._body = body
        images, true = samples['image'], samples['joints3d'][:, :24]
        parts = [slice(row, None, len(MIDPOINTS)) for row in range(min(len(MIDPOINTS), len(true)))]
        self._feeds = [
            rsc_net.feeds_at(images[part][i:i + _BATCH], settings, row)
            for row, part in enumerate(parts) for i in range(0, len(true[part]), _BATCH)]
        self.true = np.concatenate([true[part] for part in parts])

    def feeds(self) -> list[Feeds]:
        return self._feeds

    def points(self, run: Run) -> np.ndarray:
        return np.concatenate([rsc_net.joints_of(run(feed), self._body) for feed in self._feeds])

    def summary(self, run: Run) -> dict[str, float]:
        joints = self.points(run)
        return {'pa_mpjpe_mm': float(1000 * metrics.aligned_errors(joints, self.true).mean()),
                'mpjpe_mm': float(1000 * metrics.joint_errors(joints, self.true).mean())}

    @staticmethod
    def picture_inputs(batch: np.ndarray, boxes: np.ndarray) -> Feeds:
        sides = np.array([resolution.native_side(box) for box in boxes])
        return {'image': batch, 'row': resolution.rows_of(sides)}


def _pose_people() -> type[People]:
    # Pose networks need torch, the others do not.
    from hmr_ros.evaluation.mgil_quantization import PosePeople
    return PosePeople


#: what gives the crops of each network.
_PEOPLE: dict[str, Callable[[], type[People]]] = {
    'keypoint_guided': lambda: _KeypointPeople, 'rsc_net': lambda: _RscPeople,
    'mgil': _pose_people}


@dataclass(frozen=True)
class Request:
    """
    What to quantize, and on whom.

    name      engine of the manifest
    out       folder for the file and its manifest
    target    one of hmr_ros.training.quantization.TARGETS
    people    synthetic people; half of them calibrate, the others choose the layers
    pictures  video file or folder of pictures with more people to calibrate on, or None
    samples   held-out people that fp32, fp16 and int8 are judged on at the end, or 0
    threads   cores for all of this; 0 lets onnxruntime choose
    """

    name: str
    out: Path
    target: str = 'both'
    people: int = 128
    pictures: str | None = None
    samples: int = 0
    threads: int = 0


@dataclass(frozen=True)
class Original:
    """The float engine, and what belongs to it."""

    entry: ManifestEntry
    path: Path
    content: bytes
    body: BodyModel
    settings: RecoverySettings

    @classmethod
    def read(cls, name: str) -> Original:
        path, entry = resolve_engine(name)
        if entry is None or entry.network not in _PEOPLE:
            what = f'of the network {entry.network!r}' if entry else 'in no manifest'
            raise EvaluationError(
                f'engine {name!r} is {what}, so nobody knows which crops of people it takes; '
                f'engines of {", ".join(_PEOPLE)} in a manifest can be quantized')
        content, _ = read_network(path, entry)
        if choose_precision('auto', 'fp32', content, path) == 'int8':
            raise EvaluationError(f'{path} is quantized; give the engine that it was made from')
        body = load_body()
        return cls(entry, path, content, body, settings_for(entry, body))

    @property
    def kind(self) -> type[People]:
        """Return what gives this network its crops."""
        return _PEOPLE[self.entry.network]()

    def people(self, store: CutoutStore, seed: int, recipe: Recipe, which: np.ndarray) -> People:
        """Compose the people `which` of a store into crops of this engine."""
        return self.kind.of(self, store, seed, recipe, which)

    def pictures(self, source: str) -> list[Feeds]:
        """Return the inputs for everybody who is found in a user's pictures."""
        return list(picture_feeds(source, self.settings, self.kind.style,
                                  self.kind.picture_inputs, self.entry.color_order))


def quantize_engine(request: Request, tell: Callable[[str], None]) -> dict[str, Any]:
    """
    Write `out/NAME_int8.onnx`, enter it into the manifest there, and return the report.

    tell  is given a line about each step

    Raises EvaluationError, EngineError or TrainingError for an unusable engine, unusable pictures
    or a network that does not stand int8.
    """
    if request.people < 2:
        raise EvaluationError(
            f'people is {request.people}; expected 2 or more: half of them calibrate')
    _make_folder(request.out)
    original = Original.read(request.name)
    pictures = original.pictures(request.pictures) if request.pictures else []
    tell(f'{request.people} synthetic people are drawn')
    store = render_cutouts(original.body, request.people, SEED)
    candidate, methods = _candidate(request, original, pictures, store, tell)
    losses, measure = [], original.kind.measure
    for loss in layer_losses(candidate):
        losses.append(loss)
        tell(f'{loss.layer} alone in int8: {loss.loss.moved:.2f} {measure.unit}')
    choice = choose_layers(candidate, losses, measure.budget)
    content = quantized(candidate.model, candidate.target, candidate.ranges, choice.int8)
    entry = _write(request, original, content, choice)
    report = {
        'engine': entry.name, 'made_from': original.entry.name, 'target': request.target,
        'file': str(request.out / entry.file), 'sha256': entry.sha256, 'bytes': len(content),
        'calibrated_on': {'synthetic_crops': 2 * (request.people // 2), 'picture_crops': sum(
            len(feed['image']) for feed in pictures)},
        'methods': methods, **_chosen(measure, losses, choice)}
    if request.samples:
        tell(f'{request.samples} held-out people are judged (rendered once)')
        report.update(_worth(request, original, content, entry))
    return report


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f'folder {folder} cannot be made ({error.strerror}); give one that '
                              'can be written') from error


def _chosen(
        measure: Measure, losses: Sequence[LayerLoss], choice: Choice) -> dict[str, Any]:
    """What each layer loses alone, which of them are int8, and what the whole loses."""
    unit = measure.unit
    return {
        'measure': measure.name, 'unit': unit, f'budget_{unit}': measure.budget,
        'loss': choice.loss.row(unit), 'layers': [
            {'layer': one.layer, 'operator': one.operator, **one.loss.row(unit),
             'int8': one.layer in choice.int8} for one in losses]}


def _candidate(
        request: Request, original: Original, pictures: Sequence[Feeds], store: CutoutStore,
        tell: Callable[[str], None]) -> tuple[Candidate, list[dict[str, Any]]]:
    """Calibrate by each method; the one that moves points least, and what each moved."""
    model, target = float_network(original.content, original.path), TARGETS[request.target]
    half = request.people // 2
    people = original.people(store, SEED, CLEAN, np.arange(half, request.people))
    judge = Judge(people.points, people.true, runner(
        model.SerializeToString(), original.path, request.threads), people.measure)
    feeds = [feed for recipe in (CLEAN, Recipe())
             for feed in original.people(store, SEED, recipe, np.arange(half)).feeds()]
    found, rows = [], []
    for method in METHODS:
        candidate = Candidate(
            model, target, calibrate(model, target, [*feeds, *pictures], method), judge,
            original.path, request.threads, people.float_parts)
        loss = candidate.loss(candidate.layers)
        found.append((loss.moved, candidate))
        rows.append({'method': method, **loss.row(people.measure.unit)})
        tell(f'calibrated by {method}: {loss.moved:.2f} {people.measure.unit} with all layers in '
             'int8')
    best = int(np.argmin([moved for moved, _ in found]))
    return found[best][1], [{**row, 'chosen': i == best} for i, row in enumerate(rows)]


def _write(
        request: Request, original: Original, content: bytes, choice: Choice) -> ManifestEntry:
    name = f'{original.entry.name}_int8'
    path = request.out / f'{name}.onnx'
    path.write_bytes(content)
    measure = original.kind.measure
    entry = replace(
        original.entry, name=name, file=path.name, sha256=file_sha256(path), weights='int8',
        quantized_from=original.entry.sha256,
        accuracy={f'{measure.name}_change_{measure.unit}': round(choice.loss.change, 2)})
    add_entry(request.out, entry)
    return entry


def _worth(
        request: Request, original: Original, content: bytes,
        entry: ManifestEntry) -> dict[str, Any]:
    """Judge and time float and int8; the numbers of int8 go into the manifest, too."""
    store = held_out.held_out_store(original.body, request.samples)
    people = original.people(store, held_out.SEED, CLEAN, np.arange(request.samples))
    files = {precision: typed_network(original.content, precision, original.path)
             for precision in ('fp32', 'fp16')}
    rows = [
        {'precision': precision, 'samples': request.samples,
         **people.summary(runner(file, original.path, request.threads))}
        for precision, file in {**files, 'int8': content}.items()]
    add_entry(request.out, replace(entry, accuracy={
        f'synthetic_clean_{key}': round(value, 1) for key, value in rows[-1].items()
        if isinstance(value, float)}))
    return {'accuracy': rows, 'speed': list(_speed(request, original, entry))}


def _speed(request: Request, original: Original, entry: ManifestEntry) -> Iterator[dict]:
    for threads in (1, 2):
        engines = [load_engine(str(path), 'onnxruntime', threads=threads)
                   for path in (original.path, request.out / entry.file)]
        for batch in (1, 4):
            yield from timed_rows(entry, engines, batch, threads, _SPEED_SECONDS)
        for engine in engines:
            engine.close()
