# SPDX-License-Identifier: Apache-2.0
"""Writing MCAP recordings that Foxglove and `ros2 bag` open, from messages as they come (CDR)."""

from __future__ import annotations

import os
from pathlib import Path
import re
import sys

from hmr_ros.demo.errors import DemoError

_FIELD = re.compile(r'^\s*([A-Za-z_][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[A-Za-z_]\w*')
_PRIMITIVES = {
    'bool', 'byte', 'char', 'float32', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32',
    'uint32', 'int64', 'uint64', 'string', 'wstring'}
_RULE = '=' * 80


def _definition(package: str, name: str) -> str:
    prefixes = [p for p in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep) if p]
    for prefix in [*prefixes, sys.prefix]:
        path = Path(prefix) / 'share' / package / 'msg' / f'{name}.msg'
        if path.is_file():
            return path.read_text(encoding='utf-8')
    raise DemoError(
        f'the definition of {package}/msg/{name} is in no ROS prefix; source the ROS installation '
        'or make the environment again with `make setup`')


def _parts_of(package: str, text: str) -> list[tuple[str, str]]:
    """Packages and names of the messages that a definition is made of."""
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line.split('#', 1)[0])
        if match and match[1] not in _PRIMITIVES:
            words = match[1].split('/')
            found.append((words[0] if len(words) > 1 else package, words[-1]))
    return found


def schema_text(type_name: str) -> str:
    """
    Return a message definition, such as of `hmr_ros/msg/SmplArray`, with all it is made of.

    Each part follows a line of 80 `=` and a line `MSG: package/Name`, as readers expect.
    """
    package, _, name = type_name.split('/')
    text = _definition(package, name)
    pieces, seen, waiting = [text], set(), _parts_of(package, text)
    while waiting:
        part = waiting.pop(0)
        if part in seen:
            continue
        seen.add(part)
        text = _definition(*part)
        pieces.append(f'{_RULE}\nMSG: {part[0]}/{part[1]}\n{text}')
        waiting += _parts_of(part[0], text)
    return '\n'.join(pieces)


class SessionWriter:
    """Writes one MCAP file; messages are given as CDR bytes."""

    def __init__(self, path: Path) -> None:
        """Create `path`. Raises DemoError when the mcap package or the folder is missing."""
        try:
            from mcap.writer import CompressionType, Writer
        except ImportError as error:
            raise DemoError('the package mcap is not installed; `pip install mcap`') from error
        try:
            self._stream = path.open('wb')
        except OSError as error:
            raise DemoError(f'{path} cannot be written: {error.strerror}') from error
        self._writer = Writer(self._stream, compression=CompressionType.ZSTD)
        self._writer.start(profile='ros2', library='hmr_ros')
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._counts: dict[int, int] = {}

    def write(self, topic: str, type_name: str, data: bytes, log_ns: int, stamp_ns: int) -> None:
        """Append one message; `log_ns` is when it was received, `stamp_ns` its own time."""
        channel = self._channels.get(topic)
        if channel is None:
            channel = self._channels[topic] = self._open(topic, type_name)
        count = self._counts[channel] = self._counts.get(channel, -1) + 1
        self._writer.add_message(
            channel_id=channel, log_time=log_ns, publish_time=stamp_ns, sequence=count, data=data)

    def close(self) -> None:
        """Finish the file."""
        self._writer.finish()
        self._stream.close()

    def _open(self, topic: str, type_name: str) -> int:
        if type_name not in self._schemas:
            self._schemas[type_name] = self._writer.register_schema(
                name=type_name, encoding='ros2msg', data=schema_text(type_name).encode())
        return self._writer.register_channel(
            topic=topic, message_encoding='cdr', schema_id=self._schemas[type_name],
            metadata={'offered_qos_profiles': ''})
