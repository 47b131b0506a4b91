# SPDX-License-Identifier: Apache-2.0
"""The tables, the YAML files and the algorithms agree; wrong values are refused by name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from hmr_ros.nodes.errors import NodeError  # noqa: E402
from hmr_ros.nodes.parameters import NodeParameters, TABLES  # noqa: E402
from hmr_ros.perception.detection import HogSettings  # noqa: E402
from hmr_ros.perception.learned_detection import LearnedSettings  # noqa: E402
from hmr_ros.perception.tracking import TrackerSettings  # noqa: E402

pytestmark = pytest.mark.ros

CONFIG = Path(__file__).resolve().parents[2] / 'config'
FILES = {name: CONFIG / f'{name}.yaml' for name in TABLES}


def flat(tree, prefix=''):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value


@pytest.mark.parametrize('name', sorted(TABLES))
def test_the_yaml_file_holds_the_table(name):
    text = FILES[name].read_text()
    values = dict(flat(yaml.safe_load(text)['/**']['ros__parameters']))
    assert values == {spec.name: spec.default for spec in TABLES[name]}
    assert {k: type(v) for k, v in values.items()} == {
        spec.name: type(spec.default) for spec in TABLES[name]}
    for spec in TABLES[name]:
        keys = (f'{spec.name}:', spec.name.rsplit('.', 1)[-1] + ':')
        line = next(row for row in text.splitlines() if row.strip().startswith(keys))
        assert ('[dynamic]' in line) == spec.dynamic, line


def test_nodes_of_one_process_share_what_has_one_name():
    # All files of the composed pipeline have the root /**, so the last one wins everywhere.
    defaults = {}
    for specs in TABLES.values():
        for spec in specs:
            assert defaults.setdefault(spec.name, spec) == spec


def table_of(prefix):
    """Defaults of `person_detector` below a prefix."""
    return {spec.name[len(prefix) + 1:]: spec.default for spec in TABLES['person_detector']
            if spec.name.startswith(prefix + '.')}


@pytest.mark.parametrize('prefix, settings', [
    ('detector', HogSettings()), ('tracking', TrackerSettings())])
def test_defaults_are_those_of_the_algorithm(prefix, settings):
    assert table_of(prefix) == asdict(settings)


def test_defaults_of_the_learned_detector_are_those_of_the_algorithm():
    shared = {'max_people': table_of('detector')['max_people']}
    assert {**table_of('learned_detector'), **shared} == asdict(LearnedSettings())


def test_every_default_is_allowed():
    for specs in TABLES.values():
        assert [spec.problem_with(spec.default) for spec in specs] == [None] * len(specs)


@pytest.fixture
def make():
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make_node(name, **overrides):
        nodes.append(Node('n', context=context, parameter_overrides=[
            Parameter(key.replace('__', '.'), value=value) for key, value in overrides.items()]))
        return nodes[-1], NodeParameters(nodes[-1], TABLES[name])

    yield make_node
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


@pytest.mark.parametrize('name, value, words', [
    ('input_timeout_s', 5, ['float', '0.1 to 600', 'point']),
    ('input_timeout_s', 0.0, ['float', '0.1 to 600']),
    ('max_failures', 0, ['int', '1 to 1000']),
    ('backend', 'cuda', ['auto', 'onnxruntime']),
    ('autostart', 'yes', ['bool']),
])
def test_a_bad_value_at_start_is_named_with_what_is_allowed(make, name, value, words):
    with pytest.raises(NodeError) as error:
        make('mesh_recovery', **{name: value})
    assert all(word in str(error.value) for word in [name, repr(value), *words])


def test_changes_are_checked_and_all_or_nothing(make):
    node, parameters = make('mesh_recovery')
    change = node.set_parameters_atomically
    good, bad = Parameter('max_failures', value=3), Parameter('input_timeout_s', value=-1.0)
    assert not change([good, bad]).successful
    assert parameters['max_failures'] == 10
    assert change([good]).successful and parameters['max_failures'] == 3
    assert not change([Parameter('backend', value='onnxruntime')]).successful, 'read-only'
