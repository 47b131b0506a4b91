# SPDX-License-Identifier: Apache-2.0
"""The node person_detector with an engine: a file that says the same boxes in every light."""

from __future__ import annotations

from pathlib import Path
import sys

from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest

pytest.importorskip('onnxruntime', reason='the engine is an ONNX file')
from hmr_ros.msg import PersonBoxArray  # noqa: E402
from hmr_ros.nodes.conversions import image_message  # noqa: E402
from hmr_ros.nodes.errors import NodeError  # noqa: E402
from hmr_ros.nodes.person_detector import PersonDetectorNode  # noqa: E402
from hmr_ros.nodes.qos import image_qos  # noqa: E402
from hmr_ros.runtime import EngineError, load_engine  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / 'runtime'))
from mock_networks import write_detector  # noqa: E402

pytestmark = pytest.mark.ros

WIDTH, HEIGHT = 320, 240
# In the input of 64 x 128 pixels an image of 320 x 240 is 85 x 64, between columns 21 and 106.
LEFT, SCALE = 21, 64 / HEIGHT
PEOPLE = np.float64([[40, 60, 80, 180], [200, 90, 240, 210], [42, 60, 82, 180], [280, 8, 283, 12]])
SCORES = (0.9, 0.6, 0.5, 0.8)
LIGHT, DARK = (np.full((HEIGHT, WIDTH, 3), level, np.uint8) for level in (255, 0))


@pytest.fixture
def file(tmp_path):
    """Return an engine that finds PEOPLE; the third is the first one again, the last is small."""
    boxes = PEOPLE * np.tile([85 / WIDTH, SCALE], 2) + [LEFT, 0, LEFT, 0]
    # The free parts of its input are never dark.
    return write_detector(tmp_path / 'detector.onnx', boxes, SCORES, (64, 128))


@pytest.fixture
def start(graph, file):
    """Return how to run the node with a probe that listens."""
    def run(parameters=None, **arguments):
        node = graph.make(PersonDetectorNode, {
            'detector_method': 'learned', 'detector_engine': str(file), 'backend': 'onnxruntime',
            'between_detections': 'drop', 'tracking.min_hits': 1, **(parameters or {})},
            **arguments)
        graph.listen(PersonBoxArray, 'person_boxes')
        if node.is_active:
            graph.until(node._publisher.get_subscription_count, 'the listener')
        return node
    return run


def boxes_in(graph, image=LIGHT):
    """Send an image; return the boxes that come back for it."""
    header = graph.header()
    graph.publish('image', image_message(image, header), image_qos())
    message = graph.next_on('person_boxes')
    assert message.header == header
    return message.boxes


def test_boxes_land_where_the_engine_says(graph, start, file):
    node = start()
    found = boxes_in(graph)
    assert [box.track_id for box in found] == ['p1', 'p2']
    np.testing.assert_allclose([box.box for box in found], PEOPLE[:2], atol=0.01)
    np.testing.assert_allclose([box.score for box in found], SCORES[:2], atol=1e-3)
    facts = node.diagnostics.facts
    assert facts['detector'] == 'learned' and facts['backend'] == 'onnxruntime'
    assert facts['engine'] == 'detector' and facts['persons'] == '2'
    assert node.diagnostics.summary()['latency_ms']['detection']['p50'] > 0


def test_the_settings_are_those_of_the_parameters(graph, start):
    start({'learned_detector.min_score': 0.7, 'learned_detector.min_person': 0.0})
    assert len(boxes_in(graph)) == 2, 'the best and the small one'


def test_more_overlap_makes_two_of_one(graph, start):
    start({'learned_detector.max_overlap': 0.95, 'learned_detector.min_score': 0.45})
    assert len(boxes_in(graph)) == 3


def test_the_best_are_left_when_there_are_too_many(graph, start):
    start({'detector.max_people': 1})
    box, = boxes_in(graph)
    np.testing.assert_allclose(box.box, PEOPLE[0], atol=0.01)


def test_hog_opens_no_engine(graph, start):
    def refuse(*_):
        raise AssertionError('it needs none')
    node = start({'detector_method': 'hog'}, open_engine=refuse)
    assert boxes_in(graph) == [] and node.diagnostics.facts['detector'] == 'hog'
    assert 'engine' not in node.diagnostics.facts


@pytest.mark.parametrize('name, value, words', [
    ('detector_method', 'svm', ['hog, learned']),
    ('detector_engine', 5, ['string']),
    ('backend', 'cuda', ['onnxruntime']),
    ('precision', 'fp8', ['fp16']),
    ('allow_engine_build', 'no', ['bool']),
    ('threads', -1, ['0 to 256']),
    ('learned_detector.min_score', 1.5, ['0.0 to 1.0']),
    ('learned_detector.min_score', 1, ['point']),
    ('learned_detector.max_overlap', -0.1, ['0.0 to 1.0']),
    ('learned_detector.min_person', 2.0, ['0.0 to 1.0'])])
def test_a_wrong_value_is_refused_by_name(graph, name, value, words):
    with pytest.raises(NodeError) as error:
        graph.make(PersonDetectorNode, {name: value})
    assert all(word in str(error.value) for word in [name, repr(value), *words]), error.value


@pytest.fixture
def no_engines(tmp_path, monkeypatch):
    (tmp_path / 'manifest.yaml').write_text('engines: {}\n')
    monkeypatch.setenv('HMR_ENGINES_DIR', str(tmp_path))
    return tmp_path


def reason_of(graph, node, *words):
    """Why the node was not configured."""
    assert not node.is_active
    status = graph.status_of(node, lambda s: s.level == DiagnosticStatus.ERROR)
    assert all(word in status.message for word in ['configure failed', *words]), status.message
    return status.message


def test_without_an_engine_configure_says_how_to_get_one_and_can_be_repeated(
        graph, start, file, no_engines):
    node = start({'detector_engine': 'mgil_detector'})
    reason_of(graph, node, "no engine 'mgil_detector'", 'hmr train mgil_detector',
              'hmr export mgil_detector', 'detector_engine', 'boxes and scores',
              'detector_method to hog')
    node._open_engine = lambda *_: load_engine(str(file), 'onnxruntime')
    assert node.start()
    assert len(boxes_in(graph)) == 2


def test_a_path_without_a_file_is_named_and_nothing_is_recommended(graph, start, no_engines):
    path = str(no_engines / 'mine.onnx')
    assert 'detector_method' not in reason_of(graph, start({'detector_engine': path}), path)


def test_an_engine_of_another_network_is_refused_at_configure_and_closed(graph, start, tmp_path):
    path = write_detector(tmp_path / 'many.onnx', PEOPLE, SCORES, classes=80)
    node = start({'detector_engine': str(path)})
    reason_of(graph, node, "'many'", '80', 'scores (N, M, 1)', 'mgil_detector')
    engine, = node._engines
    node.trigger_configure()
    with pytest.raises(EngineError):
        engine.run({'image': np.zeros((1, 3, 32, 64), np.float32)})


def test_the_engine_is_asked_for_as_the_parameters_say(graph, start, file):
    asked = []

    def open_engine(name, backend, precision, threads, build):
        asked.append((name, backend, precision, threads, build.max_batch,
                      build.allow_engine_build))
        return load_engine(str(file), 'onnxruntime')
    start({'detector_engine': 'mine', 'backend': 'torch', 'precision': 'fp16', 'threads': 3,
           'allow_engine_build': False}, open_engine=open_engine)
    assert asked == [('mine', 'torch', 'fp16', 3, 1, False)]


def test_numbers_that_are_not_finite_skip_the_image_and_are_named(graph, start, tmp_path):
    path = write_detector(tmp_path / 'broken.onnx', PEOPLE, [np.nan] * 4)
    node = start({'detector_engine': str(path)})
    graph.publish('image', image_message(LIGHT, graph.header()), image_qos())
    status = graph.status_of(node, lambda s: 'not finite' in s.message)
    assert status.level == DiagnosticStatus.WARN and 'fp32' in status.message
    assert node.is_active and not graph.received['person_boxes']


def test_in_the_dark_the_free_parts_give_too_little_light(graph, start):
    start({'learned_detector.min_score': 0.45})
    assert boxes_in(graph, DARK) == [], '0.9 times 114/255'
    assert len(boxes_in(graph)) == 2


def test_failures_of_the_engine_are_survived(graph, start):
    node = start()
    run, error = node._detector._engine.run, EngineError('one hiccup')

    def fail(feeds):
        raise error
    node._detector._engine.run = fail
    graph.publish('image', image_message(LIGHT, graph.header()), image_qos())
    status = graph.status_of(node, lambda s: 'EngineError: one hiccup' in s.message)
    assert status.level == DiagnosticStatus.ERROR
    node._detector._engine.run = run
    assert len(boxes_in(graph)) == 2
