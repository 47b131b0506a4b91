# SPDX-License-Identifier: Apache-2.0
"""Person detectors on held-out scenes and on a real clip: what they find, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
import enum
from pathlib import Path
import time
from typing import Any, Protocol

import cv2
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hmr_ros.demo.clip import clip_at_hand
from hmr_ros.demo.report import context, write_json
from hmr_ros.evaluation.box_matching import Band, Curve, curve, Found, Truth
from hmr_ros.evaluation.errors import EvaluationError
from hmr_ros.evaluation.pedestrians import LabelledClip, read_pedestrians
from hmr_ros.perception.detection import HogPersonDetector, HogSettings, score_of
from hmr_ros.perception.learned_detection import LearnedPersonDetector, LearnedSettings
from hmr_ros.perception.person import PersonBox
from hmr_ros.perception.video import VideoReader
from hmr_ros.runtime import load_engine

#: pixels that people are tall.
BANDS = (Band(12, 24), Band(24, 48), Band(48, 96), Band(96, 200), Band(200, 400))
#: a method in place of another must find so many times as many people at its precision, in so
#: many times its time.
LEAST_GAIN, MOST_TIME = 1.3, 0.5
#: images of a report's parts.
PARTS = {'synthetic': 'held-out scenes', 'real': 'frames of the real clip',
         'real_half': 'frames of it at half size', 'real_quarter': 'frames of it at quarter size'}
#: how much smaller, as if people were so much further off.
SMALLER = {'real_half': 0.5, 'real_quarter': 0.25}
#: a picture, uint8 (H, W, 3) BGR, and who is in it.
Picture = tuple[np.ndarray, Truth]
#: precision at which recalls are compared.
PRECISION = 0.9
HOG_WHOLE, HOG_LIVE = 'hog, whole images', 'hog, live'
# Curves go on to people that nobody would call found.
_LEAST_SCORE, _MOST_PEOPLE = 0.01, 100


class Detector(Protocol):
    """What finds people."""

    def detect(self, image_bgr: np.ndarray) -> list[PersonBox]:
        """Find the people in an image, uint8 `(H, W, 3)` BGR."""
        ...


class Looks(enum.Enum):
    """At which images a detector looks."""

    AT_ANY = 'at any'
    #: it remembers whom it saw, so it must see all frames of a film.
    AT_ALL_IN_A_ROW = 'at all in a row'


@dataclass
class Contender:
    """
    A detector, and what it has found and taken so far.

    score     from which a found box is a person by the method's own settings
    found     of each labelled image;  times_ms: of each image
    """

    name: str
    detector: Detector
    score: float
    looks: Looks = Looks.AT_ANY
    found: list[Found] = field(default_factory=list)
    times_ms: list[float] = field(default_factory=list)

    def look(self, image: np.ndarray) -> Found:
        """Search an image, and note the time."""
        start = time.perf_counter()
        people = self.detector.detect(image)
        self.times_ms.append(1e3 * (time.perf_counter() - start))
        return Found(np.array([person.box for person in people], np.float64).reshape(-1, 4),
                     np.array([person.score for person in people]))


def hog_whole() -> Contender:
    """HOG that searches each image whole, also for people below its usual weight."""
    detector = HogPersonDetector(HogSettings(
        scan_frames=1, min_weight=0.0, max_people=_MOST_PEOPLE))
    return Contender(HOG_WHOLE, detector, score_of(HogSettings().min_weight))


def hog_live() -> Contender:
    """HOG as the node runs it by default, part of the places in each frame."""
    return Contender(HOG_LIVE, HogPersonDetector(), 0.0, Looks.AT_ALL_IN_A_ROW)


def learned(engine: str) -> Contender:
    """Return an engine on one core; also for people below its usual score."""
    settings = replace(LearnedSettings(), min_score=_LEAST_SCORE, max_people=_MOST_PEOPLE)
    loaded = load_engine(engine)
    return Contender(
        loaded.name, LearnedPersonDetector(loaded, settings), LearnedSettings().min_score)


def run_evaluation(
        engines: Sequence[str], scenes: int = 200, real: str | Path | None = None,
        out: str | Path | None = None, console: Console | None = None) -> dict[str, Any]:
    """
    Compare HOG with engines and return the report of `hmr evaluate detector`.

    engines  names in the manifest, or ONNX files; HOG alone when there are none
    scenes   held-out synthetic scenes
    real     folder with the pedestrian clip; None: where `hmr demo` has put it, if it has
    """
    console, surroundings = console or Console(), context()
    report = {'network': 'detector', 'engines': list(engines), **surroundings}
    with console.status(f'{scenes} held-out scenes'):
        report['synthetic'] = _search(engines, composed(scenes))
    path = _clip(real)
    if path is None:
        console.print('The real clip is not here: give its folder by --real, or run hmr demo')
    else:
        with console.status('the real clip'):
            report.update(_on_clip(engines, path, read_pedestrians()))
    show(report, console)
    if out is not None:
        _write(report, Path(out))
    return report


def _on_clip(engines: Sequence[str], path: Path, clip: LabelledClip) -> dict[str, Any]:
    """Parts of the report on the clip: as it is, the rule, and from further off."""
    contenders = [hog_whole(), hog_live(), *map(learned, engines)]
    truth = watch(contenders, path, clip)
    real = judged(contenders, truth)
    return {'real': real, 'rule': rule(real), **{
        name: _search(engines, smaller_frames(path, clip, share))
        for name, share in SMALLER.items()}}


def _search(engines: Sequence[str], pictures: Iterable[Picture]) -> dict[str, Any]:
    contenders = [hog_whole(), *map(learned, engines)]
    return judged(contenders, search(contenders, pictures))


def _write(report: Mapping[str, Any], folder: Path) -> None:
    from hmr_ros.evaluation.plots import precision_recall
    folder.mkdir(parents=True, exist_ok=True)
    write_json(dict(report), folder / 'report.json')
    precision_recall(report, folder / 'precision_recall.png')


def _clip(real: str | Path | None) -> Path | None:
    if real is None:
        return clip_at_hand()
    path = Path(real).expanduser() / read_pedestrians().file
    if not path.is_file():
        raise EvaluationError(
            f'{path} is missing; give the folder examples/data of the Debian package opencv-doc')
    return path


def composed(count: int) -> Iterator[Picture]:
    """Held-out scenes of rendered people."""
    from hmr_ros.evaluation.detection_scenes import held_out_scenes
    scenes = held_out_scenes(count)
    for image, boxes, ignored in zip(scenes.images, scenes.boxes, scenes.ignored):
        yield image, Truth(boxes[~ignored], boxes[ignored])


def smaller_frames(path: Path, clip: LabelledClip, share: float) -> Iterator[Picture]:
    """Labelled frames of a clip with `share` of their pixels along each side."""
    wanted = {frame.number: frame for frame in clip.frames}
    with closing(VideoReader(str(path))) as video:
        for number, (image, _) in enumerate(video):
            if number in wanted:
                truth = Truth(wanted[number].people * share, wanted[number].ignored * share)
                yield cv2.resize(
                    image, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), truth


def search(contenders: Sequence[Contender], pictures: Iterable[Picture]) -> list[Truth]:
    """Let contenders find the people of pictures, in turns on each; returns who is there."""
    truth = []
    for image, one_truth in pictures:
        for one in contenders:
            one.found.append(one.look(image))
        truth.append(one_truth)
    return truth


def watch(contenders: Sequence[Contender], path: Path, clip: LabelledClip) -> list[Truth]:
    """
    Let contenders find the people of a clip, in turns on each frame; returns who is there.

    Raises EvaluationError when the clip ends before its last labelled frame.
    """
    wanted, truth = {frame.number: frame for frame in clip.frames}, []
    with closing(VideoReader(str(path))) as video:
        for number, (image, _) in enumerate(video):
            labelled = wanted.get(number)
            for one in contenders:
                if labelled is not None:
                    one.found.append(one.look(image))
                elif one.looks is Looks.AT_ALL_IN_A_ROW:
                    one.look(image)
            truth += [] if labelled is None else [labelled]
    if len(truth) < len(clip.frames):
        raise EvaluationError(
            f'video {path} has {len(truth)} of {len(clip.frames)} labelled frames; copy it again')
    return truth


def judged(contenders: Iterable[Contender], truth: Sequence[Truth]) -> dict[str, Any]:
    """
    Rows of a report, one for each contender, by its name.

    precision and found are those of its own settings; curves are of all it has found.
    """
    return {'images': len(truth), 'people': sum(len(one.people) for one in truth),
            'methods': {one.name: _row(one, truth) for one in contenders}}


def _row(one: Contender, truth: Sequence[Truth]) -> dict[str, Any]:
    whole = curve(one.found, truth)
    found, precision = whole.point(one.score)
    return {
        'found': found, 'precision': precision, 'ap': whole.average_precision(),
        f'recall_at_{PRECISION}': whole.found_at(PRECISION) / max(whole.people, 1),
        'p50_ms': float(np.median(one.times_ms)), 'p95_ms': float(np.percentile(one.times_ms, 95)),
        'by_height': [_band_row(one, truth, band) for band in BANDS],
        'curve': _curve_row(whole)}


def _band_row(one: Contender, truth: Sequence[Truth], band: Band) -> dict[str, Any]:
    part = curve(one.found, truth, band)
    found, precision = part.point(one.score)
    return {'from_px': band.low, 'to_px': band.high, 'people': part.people, 'found': found,
            'precision': precision, 'ap': part.average_precision()}


def _curve_row(whole: Curve) -> dict[str, list[float]]:
    return {'score': whole.scores.tolist(), 'found': whole.hits.tolist(),
            'precision': whole.precision.tolist(), 'recall': whole.recall.tolist()}


def rule(real: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Compare each engine with each way of HOG: people found at HOG's precision, and time.

    An engine `holds` against it with LEAST_GAIN times its people in MOST_TIME of its time.
    """
    methods, baselines = real['methods'], (HOG_WHOLE, HOG_LIVE)
    return [{'method': name, 'against': baseline,
             **_compared(methods[name], methods[baseline], real['people'])}
            for name in methods if name not in baselines for baseline in baselines]


def _compared(ours: Mapping[str, Any], theirs: Mapping[str, Any], people: int) -> dict[str, Any]:
    enough = np.array(ours['curve']['precision']) >= theirs['precision']
    found = int(np.array(ours['curve']['found'])[enough].max(initial=0))
    gain, time_ratio = found / max(theirs['found'], 1), ours['p50_ms'] / theirs['p50_ms']
    return {
        'precision': theirs['precision'], 'found': found, 'found_by_hog': theirs['found'],
        'gain': gain, 'most_gain': people / max(theirs['found'], 1), 'time_ratio': time_ratio,
        'holds': gain >= LEAST_GAIN and time_ratio <= MOST_TIME}


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the report as tables, and the comparison that decides."""
    for key, what in PARTS.items():
        if key in report:
            _show_methods(report[key], what, console)
    for row in report.get('rule', []):
        verdict = 'holds' if row['holds'] else 'does not hold'
        # One line each, however narrow the terminal is.
        console.print(
            f'{row["method"]} against {row["against"]}, at precision {row["precision"]:.3f}: '
            f'{row["found"]} people to {row["found_by_hog"]}, {row["gain"]:.2f} times '
            f'(needed: {LEAST_GAIN}; if all were found: {row["most_gain"]:.2f}); '
            f'{row["time_ratio"]:.2f} of the time (allowed: {MOST_TIME}): the rule {verdict}',
            soft_wrap=True, highlight=False)


def _show_methods(part: Mapping[str, Any], what: str, console: Console) -> None:
    table = _table(f'{part["people"]} people in {part["images"]} {what}', (
        'found', 'precision', f'recall at {PRECISION}', 'AP', 'ms'))
    bands = [i for i, band in enumerate(BANDS) if _people_of(part, i)]
    heights = _table('AP by height, px', [
        f'{BANDS[i].low}-{BANDS[i].high} ({_people_of(part, i)})' for i in bands])
    for name, row in part['methods'].items():
        table.add_row(
            name, str(row['found']), f'{row["precision"]:.3f}',
            f'{row[f"recall_at_{PRECISION}"]:.3f}', f'{row["ap"]:.1f}', f'{row["p50_ms"]:.1f}')
        heights.add_row(name, *(f'{row["by_height"][i]["ap"]:.1f}' for i in bands))
    console.print(table, heights)


def _people_of(part: Mapping[str, Any], band: int) -> int:
    return next(iter(part['methods'].values()))['by_height'][band]['people']


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify='left', box=SIMPLE_HEAD)
    table.add_column('method', no_wrap=True)
    for column in columns:
        table.add_column(column, justify='right')
    return table
