# SPDX-License-Identifier: Apache-2.0
"""Writes the parameter tables of the README: `python -m hmr_ros.nodes.parameter_docs README.md`."""

from __future__ import annotations

from pathlib import Path
import sys

from hmr_ros.nodes.errors import NodeError
from hmr_ros.nodes.parameters import COMMON, ParameterSpec, TABLES

BEGIN, END = '<!-- parameters -->\n', '<!-- end of parameters -->\n'


def markdown_tables() -> str:
    """Return one table per node, and one of what the nodes have in common."""
    sections = [_section('All nodes but `pipeline`', COMMON)]
    for node, specs in TABLES.items():
        sections.append(_section(f'`{node}`', [spec for spec in specs if spec not in COMMON]))
    return '\n'.join(sections)


def _section(title: str, specs: list[ParameterSpec] | tuple[ParameterSpec, ...]) -> str:
    rows = [f'**{title}**', '', '| parameter | default | allowed | meaning |', '|---|---|---|---|']
    for spec in specs:
        dynamic = ' (dynamic)' if spec.dynamic else ''
        rows.append(f'| `{spec.name}`{dynamic} | `{spec.default!r}` | {spec.allowed} | '
                    f'{spec.description} |')
    return '\n'.join(rows) + '\n'


def with_tables(readme: str) -> str:
    """Return the README's text with fresh tables between its two markers."""
    if BEGIN not in readme or END not in readme:
        raise NodeError(f'the README lacks the lines {BEGIN.strip()} and {END.strip()}')
    head, tail = readme.split(BEGIN, 1)[0], readme.split(END, 1)[1]
    return f'{head}{BEGIN}{markdown_tables()}{END}{tail}'


def main() -> None:
    """Rewrite the file named on the command line."""
    path = Path(sys.argv[1])
    path.write_text(with_tables(path.read_text(encoding='utf-8')), encoding='utf-8')


if __name__ == '__main__':
    main()
