# SPDX-License-Identifier: Apache-2.0
"""`hmr engines`: lists as ever when left alone, builds into the cache, and verifies."""

import json
from pathlib import Path
import sys

import pytest
from typer.testing import CliRunner

from hmr_ros import cli

pytest.importorskip('onnxruntime', reason='the stand-in for TensorRT computes with onnxruntime')


def run(*arguments):
    return CliRunner().invoke(cli.app, ['engines', *arguments], catch_exceptions=False)


def said(result):
    """Return the output without the line breaks of the terminal."""
    return ' '.join(result.output.split())


def report_of(path):
    return json.loads(path.read_text())


def test_alone_it_lists(engines, gpu, tmp_path):
    for words in ((), ('list',)):
        result = run(*words, '--json', str(tmp_path / 'report.json'))
        assert result.exit_code == 0 and 'mock_2' in result.output
        report = report_of(tmp_path / 'report.json')
        assert report['engines']['mock']['state'] == 'ok' and report['built'] == []


def test_build_then_verify(engines, gpu, tmp_path):
    result = run('build', 'mock', '--precision', 'fp32', '--max-batch', '3', '--json',
                 str(tmp_path / 'report.json'))
    assert 'Fake Orin, TensorRT 10.3.0' in said(result) and 'at most 3 people' in said(result)
    report = report_of(tmp_path / 'report.json')
    assert Path(report['file']).is_file() and report['key']['precision'] == 'fp32'
    assert run('verify').exit_code == 0
    assert 'Built for a GPU' in said(run('list'))
    run('build', 'mock', '--precision', 'fp32', '--max-batch', '3')
    assert gpu.tensorrt.builds == 1, 'what is there is not built again'


def test_verify_names_what_is_wrong_and_the_repair(engines, gpu, install, tmp_path):
    run('build', 'mock', '--max-batch', '3')
    install(name='Thor', capability=(11, 0))
    with pytest.raises(cli.CommandError, match="1 would.*this one is 'Thor'.*hmr engines build"):
        run('verify', '--json', str(tmp_path / 'report.json'))
    row, = report_of(tmp_path / 'report.json')['built']
    assert 'Thor' in row['state'] and 'precision' not in row
    (engines / 'mock.onnx').write_bytes(b'changed')
    with pytest.raises(cli.CommandError, match='3 would.*mock: changed'):
        run('verify')


def test_without_tensorrt_files_are_verified_and_nothing_is_built(
        engines, gpu, monkeypatch):
    run('build', 'mock', '--max-batch', '3')
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    result = run('verify')
    assert result.exit_code == 0 and 'not compared with this machine' in said(result)
    from hmr_ros.runtime import EngineError
    with pytest.raises(EngineError, match='tensorrt cannot be imported'):
        run('build', 'mock')


def test_a_precision_that_is_none(engines, gpu):
    with pytest.raises(cli.CommandError, match='--precision is .fp8.*int8'):
        run('build', 'mock', '--precision', 'fp8')
