# SPDX-License-Identifier: Apache-2.0
"""The `hmr` program: reports with the promised keys, and errors of one line."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from hmr_ros import cli
from hmr_ros.demo import report
from hmr_ros.runtime.manifest import engines_folder, read_manifest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)


def hmr(*arguments, **environment):
    """Run the program as a user does; returns status, output and errors."""
    result = subprocess.run(
        [sys.executable, '-m', 'hmr_ros.cli', *arguments], cwd=ROOT, text=True,
        capture_output=True, env={**os.environ, **environment}, timeout=60)
    return result.returncode, result.stdout, result.stderr


def test_every_command_shows_its_help():
    listed = [(), ('demo',), ('digitize',), ('info',), ('engines',), ('engines', 'list'), ('engines', 'build'),
              ('engines', 'verify'), ('train',), ('export',), ('quantize',), ('evaluate',),
              ('import-checkpoint',),
              ('benchmark',), ('benchmark', 'markers'), ('benchmark', 'engines'),
              ('benchmark', 'pipeline'), ('benchmark', 'naive'), ('benchmark', 'smoother'),
              ('benchmark', 'crops'), ('benchmark', 'refinement'), ('benchmark', 'bidrn'),
              ('benchmark', 'digitizer'),
              ('body',), ('body', 'build'), ('body', 'show')]
    for words in listed:
        result = run(*words, '--help')
        assert result.exit_code == 0 and 'Usage' in result.output


def test_info_report(tmp_path):
    assert run('info', '--json', str(tmp_path / 'info.json')).exit_code == 0
    facts = json.loads((tmp_path / 'info.json').read_text())
    assert facts['versions']['hmr_ros'] and facts['machine']['cores'] and 'commit' in facts


@pytest.mark.torch
def test_info_of_the_default_engine_has_nothing_from_the_paper(tmp_path):
    run('info', 'keypoint_guided', '--backbone', 'compact', '--json', str(tmp_path / 'n.json'))
    facts = json.loads((tmp_path / 'n.json').read_text())
    assert facts['paper'] == {} and facts['filter_gmacs'] == 0
    assert facts['parameters'] == sum(facts['parameters_by_module'].values())
    assert 0.4 < facts['gmacs'] < 0.5


@pytest.mark.torch
def test_info_of_a_network(tmp_path):
    assert run('info', 'keypoint_guided', '--json', str(tmp_path / 'n.json')).exit_code == 0
    facts = json.loads((tmp_path / 'n.json').read_text())
    assert facts['parameters'] == 11_981_316
    assert facts['parameters_by_module']['backbone'] == 4_664_423
    # 783 M without the filters, which are 532 M: sheet, section 8.
    assert facts['gmacs'] == pytest.approx(0.783, abs=0.001) and facts['paper']['gmacs'] == 0.8
    assert facts['filter_gmacs'] == pytest.approx(0.532, abs=0.001)


@pytest.mark.torch
def test_info_of_the_compact_rsc_net(tmp_path):
    run('info', 'rsc_net', '--backbone', 'compact', '--json', str(tmp_path / 'info.json'))
    facts = json.loads((tmp_path / 'info.json').read_text())
    assert facts['paper'] == {} and 5e6 < facts['parameters'] < 10e6 and facts['gmacs'] < 0.3
    with pytest.raises(cli.CommandError, match="'vgg'; allowed: resnet50, compact"):
        run('info', 'rsc_net', '--backbone', 'vgg')


@pytest.mark.torch
def test_info_of_mgil_beside_the_sheet(tmp_path):
    run('info', 'mgil', '--backbone', 'resnet50', '--downsampling', 'spd', '--size', '128',
        '--json', str(tmp_path / 'info.json'))
    facts = json.loads((tmp_path / 'info.json').read_text())
    assert round(facts['parameters'] / 1e6, 3) == facts['paper']['parameters_m'] == 43.959
    assert round(facts['gmacs'], 4) == facts['paper']['gmacs'] == 2.2982
    for option, value in (('backbone', 'w64'), ('downsampling', 'pool'), ('size', '48')):
        with pytest.raises(cli.CommandError, match=f'--{option} is .*{value}.*; allowed: '):
            run('info', 'mgil', f'--{option}', value)


@pytest.mark.torch
def test_info_of_the_digitizer_beside_the_sheet(tmp_path):
    run('info', 'digitizer_2k2k', '--size', '512', '--json', str(tmp_path / 'info.json'))
    facts = json.loads((tmp_path / 'info.json').read_text())
    assert facts['parameters'] == facts['paper']['parameters'] == 77_655_212
    assert facts['gmacs'] == pytest.approx(facts['paper']['gmacs'], rel=1e-3)
    for option, value in (('size', '640'), ('width', '0.3')):
        with pytest.raises(cli.CommandError, match=f'--{option} is {value}; '):
            run('info', 'digitizer_2k2k', f'--{option}', value)


@pytest.mark.torch
@pytest.mark.parametrize('network, parameters, saved', [
    # Mega-multiply-accumulates that the split first layer saves: sheet, sections 7 and 8.
    ('rsc_net', 26_977_581, 4.39), ('rsc_temporal', 21_309_597, 4.36),
    ('rsc_texture', 18_257_347, 0)])
def test_info_of_rsc_net_beside_the_sheet(network, parameters, saved, tmp_path):
    run('info', network, '--json', str(tmp_path / 'n.json'))
    facts = json.loads((tmp_path / 'n.json').read_text())
    assert facts['parameters'] == facts['paper']['parameters'] == parameters
    assert facts['paper']['gmacs'] - facts['gmacs'] == pytest.approx(saved / 1000, abs=3e-4)


@pytest.mark.torch
def test_render_takes_shares_and_frames(tmp_path):
    run('render', str(tmp_path / 'a.npz'), '--people', '2', '--size', '64', '--share', 'coats=1',
        '--share', 'dark=0.5')
    run('render', str(tmp_path / 'b.npz'), '--people', '2', '--size', '64', '--frames', '3')
    from hmr_ros.training.synthetic import CutoutStore, SyntheticError
    assert [len(CutoutStore.load(tmp_path / name)) for name in ('a.npz', 'b.npz')] == [2, 6]
    with pytest.raises(SyntheticError, match="no share 'hats'"):
        run('render', str(tmp_path / 'c.npz'), '--share', 'hats=1')
    with pytest.raises(cli.CommandError, match='name=value'):
        run('render', str(tmp_path / 'c.npz'), '--share', 'coats')
    with pytest.raises(cli.CommandError, match='leave it out'):
        run('render', str(tmp_path / 'c.npz'), '--share', 'coats=1', '--frames', '3')


@pytest.mark.torch
def test_render_of_people_with_hands_and_faces(tmp_path):
    run('render', str(tmp_path / 'a.npz'), '--people', '2', '--size', '64', '--layout', 'smplx')
    from hmr_ros.training.bidrn.people import WholePeople
    assert WholePeople.load(tmp_path / 'a.npz').pose.shape == (2, 53, 3)
    with pytest.raises(cli.CommandError, match='leave --layout out'):
        run('render', str(tmp_path / 'c.npz'), '--layout', 'smplx', '--frames', '3')


def test_temporal_networks_are_trained_by_their_name(tmp_path):
    path = tmp_path / 'stage.yaml'
    path.write_text('films: [films.npz]\nnetwork: body_filter\n')
    with pytest.raises(cli.CommandError, match='body_filter, not rsc_temporal'):
        run('train', 'rsc_temporal', str(path), '--out', str(tmp_path))
    with pytest.raises(cli.CommandError, match='not resumed'):
        run('train', 'body_filter', str(path), '--out', str(tmp_path), '--resume', 'x')


@pytest.mark.torch
def test_engines_are_timed_by_backend_in_turns(tmp_path):
    run('benchmark', 'engines', '--batch', '1', '--threads', '1', '--seconds', '0.01',
        '--engine', 'keypoint_guided', '--engine', 'keypoint_guided_int8',
        '--backend', 'onnxruntime', '--backend', 'torch', '--backend', 'bare',
        '--plot', str(tmp_path / 'b.png'), '--json', str(tmp_path / 'b.json'))
    report = json.loads((tmp_path / 'b.json').read_text())
    found = [(row['engine'], row['backend'], row['precision']) for row in report['rows']]
    assert found == [
        ('keypoint_guided', 'onnxruntime', 'fp32'), ('keypoint_guided', 'torch', 'fp32'),
        ('keypoint_guided', 'onnxruntime, bare', 'fp32'),
        ('keypoint_guided_int8', 'onnxruntime', 'int8'),
        ('keypoint_guided_int8', 'onnxruntime, bare', 'int8')]
    assert all(0 < row['p50_ms'] <= row['p95_ms'] for row in report['rows'])
    line, = report['not_measured']
    assert line.startswith('keypoint_guided_int8, torch, auto: the torch backend has no int8')
    assert (tmp_path / 'b.png').stat().st_size > 5000


def test_all_engines_are_timed_and_measured_under_load(tmp_path):
    status, _, errors = hmr(
        'benchmark', 'engines', '--batch', '2', '--threads', '1', '--seconds', '0.01',
        '--backend', 'onnxruntime', '--saturate', '--json', str(tmp_path / 'b.json'))
    assert status == 0, errors
    rows = json.loads((tmp_path / 'b.json').read_text())['rows']
    assert [row['engine'] for row in rows] == list(read_manifest(engines_folder()))
    for row in rows:
        assert 5 < row['memory_mb'] < 2000 and row['people_per_s'] > 0
    with pytest.raises(cli.CommandError, match="--backend is 'cuda'; allowed: auto, onnx"):
        run('benchmark', 'engines', '--backend', 'cuda')


def test_refinement_is_timed(tmp_path):
    run('benchmark', 'refinement', '--people', '2', '--people', '3', '--seconds', '0.05', '--json',
        str(tmp_path / 'r.json'))
    rows = json.loads((tmp_path / 'r.json').read_text())['rows']
    assert [row['people'] for row in rows] == [2, 3] and all(row['p50_ms'] > 0 for row in rows)


@pytest.mark.torch
def test_refining_by_an_engine_of_another_network_is_refused():
    pytest.importorskip('numba', reason='held-out people are rendered')
    with pytest.raises(RuntimeError, match='keypoint_guided; expected a pose engine of mgil'):
        run('evaluate', 'keypoint_guided', '--refine', 'keypoint_guided', '--samples', '2')


def test_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match='mpi_inf_3dhp'):
        run('evaluate', 'keypoint_guided', '--dataset', 'lsp', '--data', str(tmp_path))


def test_meshes_of_the_digitizer_are_direct_or_poisson():
    with pytest.raises(cli.CommandError, match="--method is 'hog'; allowed: learned, direct, poi"):
        run('evaluate', 'digitizer_2k2k', '--method', 'hog')


@pytest.mark.torch
@pytest.mark.parametrize('option, value', [('--backbone', 'resnet18'), ('--tokens', '54')])
def test_unknown_variant_is_refused(option, value):
    with pytest.raises(cli.CommandError, match=value):
        run('info', 'keypoint_guided', option, value)


@pytest.mark.torch
@pytest.mark.parametrize('network, fault', [
    ('keypoint_guided', 'pose_head.final_layer.weight'),
    ('rsc_net', "none of RSC-Net, SPIN, VIBE: its first key is 'layer.weight'"),
    ('mgil', "none of mmpose, .*: its first key is 'layer.weight'"),
    ('digitizer_2k2k', r'no tensors refine\.\*.*--allow-phase1')])
def test_import_checkpoint_names_the_fault(network, fault, tmp_path):
    import torch
    torch.save({'layer.weight': torch.zeros(2)}, tmp_path / 'theirs.pth')
    with pytest.raises(RuntimeError, match=fault):
        run('import-checkpoint', str(tmp_path / 'theirs.pth'), '--out', str(tmp_path / 'o'),
            '--network', network)


@pytest.mark.torch
def test_imported_weights_become_an_engine(tmp_path):
    from hmr_ros.training.rsc_net.weights import build_network, RscFacts, save_weights
    facts = RscFacts('rsc_temporal', False, features=16, hidden=8)
    state = {f'network.{key}': value for key, value in build_network(facts).state_dict().items()}
    weights = save_weights(state, tmp_path / 'w.safetensors', facts)
    run('export', 'rsc_net', str(weights), '--folder', str(tmp_path))
    assert (tmp_path / 'rsc_temporal.onnx').is_file()
    with pytest.raises(cli.CommandError, match="'detector'.*keypoint_guided, rsc_net"):
        run('export', 'detector', str(weights), '--folder', str(tmp_path))


@pytest.mark.torch
def test_weights_of_the_digitizer_become_engines(tmp_path):
    from hmr_ros.networks.digitizer_2k2k import build_network
    from hmr_ros.training.digitizer_2k2k.weights import DigitizerFacts, save_weights
    facts = DigitizerFacts(512, 1 / 32)
    weights = save_weights(
        build_network(facts.variant).state_dict(), tmp_path / 'w.safetensors', facts)
    shown = run('export', 'digitizer_2k2k', str(weights), '--folder', str(tmp_path), '--name', 'it')
    entries = read_manifest(tmp_path)
    assert sorted(entries) == sorted(
        f'it_{part}' for part in ('low', 'head', 'torso', 'arm', 'leg', 'foot', 'refine'))
    for entry in entries.values():
        assert entry.network == 'digitizer_2k2k' and entry.sha256 in shown.output.replace('\n', '')


@pytest.mark.torch
def test_weights_of_bidrn_become_engines_and_are_judged(tmp_path):
    pytest.importorskip('numba', reason='held-out people are rendered')
    from dataclasses import asdict

    from hmr_ros.networks.bidrn import build_network, compact
    from hmr_ros.training.bidrn.weights import save_weights, WholeBodyFacts
    network = build_network(compact('bidrn'))
    weights = save_weights(network.state_dict(), tmp_path / 'w.safetensors',
                           WholeBodyFacts('bidrn', asdict(network.variant)))
    for stored_as in ('float16', 'int8'):
        run('export', 'bidrn', str(weights), '--folder', str(tmp_path), '--name', stored_as,
            '--stored-as', stored_as)
    run('evaluate', 'bidrn', '--engine', str(weights), '--engine', str(tmp_path / 'int8.onnx'),
        '--samples', '3', '--json', str(tmp_path / 'r.json'))
    report = json.loads((tmp_path / 'r.json').read_text())
    assert [row['engine'] for row in report['rows']] == [
        f'{tmp_path.name}/w', 'int8'] and 'mpvpe_all_mm' in report['mean_pose']
    with pytest.raises(cli.CommandError, match='--stored-as'):
        run('export', 'mgil', str(weights), '--folder', str(tmp_path), '--stored-as', 'int8')


@pytest.mark.torch
def test_weights_of_mgil_become_an_engine_and_are_judged(tmp_path):
    pytest.importorskip('numba', reason='held-out people are rendered')
    from hmr_ros.networks.mgil import build_pose, NAMED, square
    from hmr_ros.training.mgil.weights import PoseFacts, save_weights
    variant = square('small', NAMED['strided'], 32)
    state = {f'network.{key}': value for key, value in build_pose(variant).state_dict().items()}
    weights = save_weights(state, tmp_path / 'w.safetensors', PoseFacts.of(variant))
    run('export', 'mgil', str(weights), '--folder', str(tmp_path), '--stored-as', 'float32')
    run('evaluate', 'mgil', '--engine', str(tmp_path / 'mgil.onnx'), '--engine', str(weights),
        '--samples', '3', '--json', str(tmp_path / 'r.json'))
    rows = json.loads((tmp_path / 'r.json').read_text())['rows']
    assert [row['pixels'] for row in rows] == 2 * [24, 48, 96, 'all']
    # The same network in both forms says the same.
    assert all(row['pck_change'] == 0 and row['ap_change'] == 0 for row in rows[4:])
    run('evaluate', 'mgil', '--engine', str(weights), '--samples', '3', '--flip', '--json',
        str(tmp_path / 'flip.json'))
    report = json.loads((tmp_path / 'flip.json').read_text())
    assert report['look'] == 'flip' and len(report['rows']) == 4


def test_body_show(tmp_path):
    result = run('body', 'show', '--picture', str(tmp_path / 'body.png'),
                 '--json', str(tmp_path / 'body.json'))
    assert result.exit_code == 0 and (tmp_path / 'body.png').stat().st_size > 5000
    assert json.loads((tmp_path / 'body.json').read_text())['vertices'] == 6852


def test_errors_are_one_line_with_a_remedy(tmp_path):
    status, _, errors = hmr('engines', HMR_ENGINES_DIR=str(tmp_path))
    assert status == 1 and errors.count('\n') == 1
    assert 'error:' in errors and 'HMR_ENGINES_DIR' in errors
    status, _, errors = hmr('info', 'unheard_of')
    assert status == 1 and 'keypoint_guided' in errors


@pytest.mark.ros
def test_demo_without_a_source_that_exists(tmp_path):
    pytest.importorskip('rclpy', reason='the demo needs ROS')
    status, _, errors = hmr('demo', str(tmp_path / 'none.mp4'), '--out', str(tmp_path / 'out'))
    assert status == 1 and 'does not exist' in errors and 'Traceback' not in errors


def test_reports_are_valid_json(tmp_path):
    report.write_json({'a': float('nan'), 'b': [1.23456, {'c': float('inf')}]},
                      tmp_path / 'r.json')
    assert json.loads((tmp_path / 'r.json').read_text()) == {'a': None, 'b': [1.2346, {'c': None}]}


@pytest.mark.torch
def test_info_of_bidrn(tmp_path):
    run('info', 'bidrn', '--row', 'bnn', '--json', str(tmp_path / 'info.json'))
    facts = json.loads((tmp_path / 'info.json').read_text())
    assert facts['row'] == 'bnn'
    assert facts['effective_parameters_m'] == pytest.approx(21.608, abs=1e-3)
    status, _, errors = hmr('info', 'bidrn', '--row', 'none')
    assert status == 1 and 'hand4whole' in errors
