# SPDX-License-Identifier: Apache-2.0
"""An engine that must be built is built at configure, announced, and not when it is forbidden."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
from hmr_ros.nodes.mesh_recovery import MeshRecoveryNode  # noqa: E402

pytestmark = pytest.mark.ros


def test_a_build_is_announced_and_shown_while_it_goes_on(graph, engine):
    seen = []

    def open_engine(name, backend, precision, threads, build):
        seen.append((name, backend, precision, build.max_batch, build.allow_engine_build))
        build.watch.announce('building it now')
        build.watch.progress('Timing', 3, 7)
        return engine
    node = graph.make(MeshRecoveryNode, {'max_people': 5, 'precision': 'fp16'},
                      open_engine=open_engine)
    assert seen == [('keypoint_guided', 'auto', 'fp16', 5, True)]

    def shown():
        return {item.value for message in graph.received['/diagnostics']
                for status in message.status for item in status.values
                if item.key == 'engine_build'}
    graph.until(lambda: shown() == {'building it now', 'Timing: 3 of 7'}, 'the diagnostics')
    for words in (('building it now',), ('engine fake on onnxruntime', 'it is a stand-in')):
        graph.until(lambda words=words: graph.logged(*words), f'a line with {words}')
    assert 'engine_build' not in node.diagnostics.facts
    assert node.diagnostics.facts['backend of fake'] == 'onnxruntime: it is a stand-in'


def test_builds_can_be_forbidden(graph, engine):
    seen = []

    def open_engine(*arguments):
        seen.append(arguments[-1].allow_engine_build)
        return engine
    graph.make(MeshRecoveryNode, {'allow_engine_build': False}, open_engine=open_engine)
    assert seen == [False]


def test_a_node_that_ends_stops_its_build(graph):
    begun, stopped = threading.Event(), []

    def open_engine(*arguments):
        begun.set()
        try:
            while True:
                arguments[-1].watch.progress('Timing', 0, 7)
        except Exception as error:
            stopped.append(str(error))
            raise
    node = graph.make(MeshRecoveryNode, start=False, open_engine=open_engine)
    building = threading.Thread(target=node.trigger_configure)
    building.start()
    assert begun.wait(20)
    graph.nodes.remove(node)
    # As destroy_node begins; the rest of it must wait for the thread of this test.
    node._destroyed = True
    building.join(20)
    node.destroy_node()
    assert not building.is_alive() and 'not built any further' in stopped[0]
