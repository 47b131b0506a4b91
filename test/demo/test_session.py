# SPDX-License-Identifier: Apache-2.0
"""Recordings open in readers of their own, with every definition inside."""

import numpy as np
import pytest

from hmr_ros.demo import session
from hmr_ros.demo.errors import DemoError

pytest.importorskip('mcap', reason='recordings need the mcap package')


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """Return a ROS prefix with two message packages."""
    for name, text in {
            'shapes/msg/Dot.msg': '# a dot\nint32 X_MAX=5\nfloat32 x 0.5  # metres\n',
            'shapes/msg/Line.msg': 'Dot[2] ends\nnames/Label label\nstring<=10 note\n',
            'names/msg/Label.msg': 'shapes/Dot[<=3] dots\nuint8[] data\n'}.items():
        path = tmp_path / 'share' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    return tmp_path


def test_schema_holds_every_part_once(prefix):
    text = session.schema_text('shapes/msg/Line')
    assert text.startswith('Dot[2] ends')
    assert [line for line in text.splitlines() if line.startswith('MSG: ')] == [
        'MSG: shapes/Dot', 'MSG: names/Label']


def test_unknown_message_is_named(prefix):
    with pytest.raises(DemoError, match='shapes/msg/Square'):
        session.schema_text('shapes/msg/Square')


def test_recording_is_read_back(prefix, tmp_path):
    decoder = pytest.importorskip('mcap_ros2.decoder', reason='needs mcap-ros2-support')
    from mcap.reader import make_reader
    path = tmp_path / 'session.mcap'
    writer = session.SessionWriter(path)
    # A Dot in CDR: four bytes of header, then a float.
    for i in range(3):
        writer.write('/dot', 'shapes/msg/Dot',
                     b'\0\1\0\0' + np.float32(i).tobytes(), 100 + i, 90 + i)
    writer.close()
    with path.open('rb') as stream:
        reader = make_reader(stream, decoder_factories=[decoder.DecoderFactory()])
        found = [(channel.topic, schema.name, message.log_time, message.publish_time, decoded.x)
                 for schema, channel, message, decoded in reader.iter_decoded_messages()]
    assert found == [('/dot', 'shapes/msg/Dot', 100 + i, 90 + i, float(i)) for i in range(3)]


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(DemoError, match='cannot be written'):
        session.SessionWriter(tmp_path / 'none' / 'session.mcap')
