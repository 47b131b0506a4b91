# SPDX-License-Identifier: Apache-2.0
"""Crops that the GPU cuts are those of the processor; the kernel runs here as g++ compiles it."""

import re
import threading

from fake_kernels import fake_code, Stand
from hypothesis import given, HealthCheck, settings, strategies as st
from kernel_on_cpu import COMPILER
from mock_networks import write_mock_with_rows, write_temporal_mock
import numpy as np
import pytest

from hmr_ros.evaluation.crop_speed import benchmark_crops
from hmr_ros.perception.crop_plan import plan_crops
from hmr_ros.perception.crops import CropTransform, cut_crops
from hmr_ros.runtime import BuildOptions, EngineError, load_engine
from hmr_ros.runtime.crop_kernel import CropKernel
from hmr_ros.runtime.kernel_compiler import compile_kernel

BUILD = BuildOptions(max_batch=12, allow_engine_build=True)
LEVELS = ((0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
needs_compiler = pytest.mark.skipif(
    not COMPILER, reason='running the kernel without a GPU needs g++')


class Cutter(Stand):
    """A stand-in that cuts crops."""

    def cut(self, kernel, image, plan):
        """Return what the kernel writes, between untouched guards."""
        shape = (len(plan) + 2, 3, plan.size, plan.size)
        address = self.session.device_memory(4 * int(np.prod(shape)))
        room = np.frombuffer(
            self.runtime.bytes_at(address, 4 * int(np.prod(shape))), np.float32).reshape(shape)
        room[:] = -7
        kernel.cut(image, plan, address + room[0].nbytes)
        self.session.wait()
        assert np.all(room[[0, -1]] == -7), 'written beyond the batch'
        return room[1:-1].copy()


@pytest.fixture(scope='module')
def stand():
    if not COMPILER:
        pytest.skip('running the kernel without a GPU needs g++')
    return Cutter()


@pytest.fixture(scope='module')
def kernel(stand):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('hmr_ros.runtime.crop_kernel.compile_kernel', fake_code)
        return CropKernel(stand.session, '8.7')


def noise(color_order, width, height, seed):
    """Black and white, where each 1/32 pixel is worth 8 grey levels, with gaps between pixels."""
    shape = (height, 2 * width) if color_order == 'gray' else (height, 2 * width, 3)
    return 255 * np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)[:, ::2]


@settings(deadline=None, max_examples=200, suppress_health_check=[
    HealthCheck.function_scoped_fixture])
@given(
    color_order=st.sampled_from(['rgb', 'bgr', 'gray']), size=st.sampled_from([8, 33, 64]),
    width=st.integers(1, 300), height=st.integers(1, 300),
    places=st.lists(st.tuples(
        st.floats(-0.4, 1.4), st.floats(-0.4, 1.4), st.one_of(
            st.floats(0.03, 7), st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0]))),
        min_size=1, max_size=4), seed=st.integers(0, 999))
def test_every_pixel_is_within_a_grey_level_of_opencv(
        stand, kernel, color_order, size, width, height, places, seed):
    image = noise(color_order, width, height, seed)
    transforms = [CropTransform(x * width, y * height, size * scale, size)
                  for x, y, scale in places]
    expected = cut_crops(image, color_order, transforms, size, *LEVELS)
    found = stand.cut(kernel, image, plan_crops(color_order, transforms, size, *LEVELS))
    assert np.abs(found - expected).max() <= 1
    # In OpenCV as it is today all are the same; a few may round otherwise in another version.
    assert np.mean(found != expected) < 0.01


def test_crops_far_from_the_corner_of_a_large_frame_too(stand, kernel):
    """There, coordinates that were rounded to float32 on their way would be seen."""
    image, rng = noise('gray', 1920, 1080, 5), np.random.default_rng(6)
    transforms = [CropTransform(*rng.uniform((900, 500), (1920, 1080)), rng.uniform(60, 900), 128)
                  for _ in range(60)]
    expected = cut_crops(image, 'gray', transforms, 128, *LEVELS)
    found = stand.cut(kernel, image, plan_crops('gray', transforms, 128, *LEVELS))
    assert np.abs(found - expected).max() <= 1


def test_crops_beside_the_image_are_black(stand, kernel):
    plan = plan_crops('rgb', [CropTransform(90, 5, 20, 8), CropTransform(-90, 99, 20, 8)], 8,
                      *LEVELS)
    assert np.all(stand.cut(kernel, noise('rgb', 10, 10, 0) | 1, plan) == 0)


def test_channels_are_normalised_each_its_way(stand, kernel):
    image = np.full((40, 50, 3), (10, 100, 200), np.uint8)
    plan = plan_crops('bgr', [CropTransform(25, 20, 20, 8)], 8, MEAN, STD)
    expected = (np.array([200, 100, 10]) / 255 - MEAN) / STD
    np.testing.assert_allclose(stand.cut(kernel, image, plan)[0, :, 4, 4], expected, atol=1e-6)


def test_only_what_crops_show_travels_and_memory_grows_with_it(stand, kernel):
    image, blocks = noise('rgb', 1500, 1000, 0), []
    far, near, crowd = ([CropTransform(700 + x, 500, side, 8) for x in shifts] for side, shifts in (
        (20, [0, 600]), (900, [0]), (300, [0, 4, 9])))
    for transforms, most in ((far, 2 * 24 ** 2), (near, 904 ** 2), (crowd, 304 * 313)):
        stand.runtime.uploads.clear()
        plan = plan_crops('rgb', transforms, 8, *LEVELS)
        expected = cut_crops(image, 'rgb', transforms, 8, *LEVELS)
        assert np.abs(stand.cut(kernel, image, plan) - expected).max() <= 1
        (_, size), = stand.runtime.uploads
        assert size < 3 * most + 5000
        blocks.append(len(stand.runtime.memory))
    assert np.diff(blocks).tolist() == [1, 1], 'only the batches of this test are new'


@pytest.mark.parametrize('image', [
    np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.float32), np.zeros((9, 9, 2), np.uint8)])
def test_images_of_other_channels_are_refused(stand, kernel, image):
    plan = plan_crops('rgb', [CropTransform(4, 4, 8, 8)], 8, *LEVELS)
    with pytest.raises(EngineError, match=r'channels.*expected uint8 \(H, W\)'):
        kernel.cut(image, plan, 0)


# The engine ----------------------------------------------------------------------------------

def people(count, size=8):
    rng = np.random.default_rng(count)
    return noise('bgr', 160, 120, 1), [
        CropTransform(*rng.uniform(0, 140, 2), rng.uniform(5, 60), size) for _ in range(count)]


def load(name='mock'):
    return load_engine(name, 'tensorrt', 'fp32', build=BUILD)


@needs_compiler
@pytest.mark.parametrize('graphs', ['captured', 'refused'])
def test_an_engine_that_cuts_gives_the_results_of_batches(engines, gpu, graphs):
    gpu.tensorrt.refuse_captures = graphs == 'refused'
    engine = load()
    assert engine.run_crops and 'crops are cut on the GPU' in engine.reason
    assert gpu.nvrtc.programs == 0, 'a program that was compiled is no longer needed'
    for count in (1, 3, 12, 3):
        image, transforms = people(count)
        batch = cut_crops(image, 'bgr', transforms, 8, MEAN, STD)
        expected = engine.run({'image': batch})
        target, _ = gpu.cuda.uploads[-1]
        gpu.cuda.uploads.clear()
        found = engine.run_crops(image, plan_crops('bgr', transforms, 8, MEAN, STD), {})
        assert target not in [to for to, _ in gpu.cuda.uploads], 'the batch came from here'
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, atol=1e-5)
    engine.close()
    assert not gpu.cuda.memory and not gpu.driver.modules and engine.run_crops is None


@needs_compiler
def test_other_inputs_come_with_the_crops(tmp_path, gpu):
    engine = load(str(write_mock_with_rows(tmp_path / 'rows.onnx')))
    image, transforms = people(3)
    plan, row = plan_crops('bgr', transforms, 8, MEAN, STD), np.int64([1, 2, 5])
    batch = cut_crops(image, 'bgr', transforms, 8, MEAN, STD)
    np.testing.assert_allclose(
        engine.run_crops(image, plan, {'row': row})['colour'],
        batch.mean(axis=(2, 3)) * row[:, None], atol=1e-5)
    with pytest.raises(EngineError, match='3 crops but 2 rows'):
        engine.run_crops(image, plan, {'row': row[:2]})
    with pytest.raises(EngineError, match='takes the inputs row'):
        engine.run_crops(image, plan, {})


@needs_compiler
def test_plans_that_do_not_fit_are_named_and_the_engine_lives_on(engines, gpu):
    engine = load()
    image, transforms = people(13)
    for plan, hint in (
            (plan_crops('bgr', transforms, 8, MEAN, STD), '13 people.*at most 12'),
            (plan_crops('bgr', people(1, 16)[1], 16, MEAN, STD), r'16 pixels.*\[-1, 3, 8, 8\]'),
            (plan_crops('bgr', [], 8, MEAN, STD), '0 crops')):
        with pytest.raises(EngineError, match=hint):
            engine.run_crops(image, plan, {})
    plan = plan_crops('bgr', transforms[:1], 8, MEAN, STD)
    run_crops, seen = engine.run_crops, []

    def run():
        with pytest.raises(EngineError, match='another thread'):
            run_crops(image, plan, {})
        seen.append(True)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen and run_crops(image, plan, {})['cam'].shape == (1, 3)
    engine.close()
    with pytest.raises(EngineError, match='closed'):
        run_crops(image, plan, {})


def refuse(stack, part):
    if part == 'compiler':
        stack.nvrtc.refuse = 'crop_kernel.cu(1): error\n  too new'
    elif part == 'launch':
        stack.driver.refuse_launches = True
    elif part == 'module':
        stack.driver.cuModuleLoadData = lambda image: (1, None)


@needs_compiler
@pytest.mark.parametrize('part, hint', [
    ('nvrtc', r'NVRTC cannot be loaded \(Failed to dlopen libnvrtc.so.12\); install'),
    ('compiler', r'cannot compile .*crop_kernel.cu for sm_87: crop_kernel.cu\(1\): error too new'),
    ('module', 'cuModuleLoadData.*fake driver refuses'), ('launch', 'cuLaunchKernel')])
def test_without_its_kernel_an_engine_says_why_and_takes_batches(engines, install, part, hint):
    stack = install(nvrtc=part != 'nvrtc')
    refuse(stack, part)
    engine = load()
    assert engine.run_crops is None and stack.nvrtc.programs == 0
    assert 'on the GPU' not in engine.reason
    assert re.search('crops are cut on the processor: .*' + hint, engine.reason), engine.reason
    assert engine.run({'image': np.zeros((2, 3, 8, 8), np.float32)})['cam'].shape == (2, 3)
    engine.close()
    assert not stack.cuda.memory and not stack.driver.modules


def test_networks_without_crops_have_no_kernel(tmp_path, gpu):
    engine = load(str(write_temporal_mock(tmp_path / 'temporal.onnx')))
    assert engine.run_crops is None and 'crops' not in engine.reason


@needs_compiler
def test_the_benchmark_times_processor_and_gpu(gpu):
    result = benchmark_crops(2, 16, 0.01)
    assert result['gpu'] == 'Fake Orin' and not gpu.cuda.memory and not gpu.driver.modules
    assert [row['where'] for row in result['rows']] == ['processor', 'gpu', 'gpu, kernel alone']
    assert all(0 < row['p50_ms'] <= row['p95_ms'] for row in result['rows'])


def test_the_benchmark_says_why_there_is_no_gpu(install):
    install(devices=0)
    result = benchmark_crops(1, 16, 0.01)
    assert 'sees no GPU' in result['gpu'] and len(result['rows']) == 1
