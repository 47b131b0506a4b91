# SPDX-License-Identifier: Apache-2.0
"""
The ONNX operators of the networks here, by torch.

Each is a function of the operator's inputs and, by name, its attributes, as ONNX defines them from
opset 13 on. What a graph asks beyond these arguments is a TypeError that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hmr_ros.runtime import torch_crops

_ALL_INPUTS = 1 << 30
_TYPES = {1: torch.float32, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool,
          10: torch.float16, 11: torch.float64}
_CONVOLUTIONS = {3: functional.conv1d, 4: functional.conv2d, 5: functional.conv3d}


@dataclass(frozen=True)
class Operator:
    """
    How torch computes an operator.

    function  returns a tensor, or several
    tensors   how many of its inputs are tensors; those behind are lists or numbers, which a
              program holds, so that nothing is read back from a GPU while it runs
    """

    function: Callable[..., Any]
    tensors: int = _ALL_INPUTS


OPERATORS: dict[str, Operator] = {
    'Abs': Operator(torch.abs),
    'Add': Operator(torch.add),
    'GreaterOrEqual': Operator(torch.ge),
    'HardSwish': Operator(functional.hardswish),
    'Identity': Operator(lambda x: x),
    'MatMul': Operator(torch.matmul),
    'Mul': Operator(torch.mul),
    'Relu': Operator(torch.relu),
    'Sigmoid': Operator(torch.sigmoid),
    'Sub': Operator(torch.sub),
    'Tanh': Operator(torch.tanh),
    'Where': Operator(torch.where),
}


def _operator(kind: str, tensors: int = _ALL_INPUTS) -> Callable[[Callable], Callable]:
    def register(function: Callable) -> Callable:
        OPERATORS[kind] = Operator(function, tensors)
        return function
    return register


@_operator('AveragePool')
def _average_pool(
        x: Tensor, *, kernel_shape: Sequence[int], strides: Sequence[int] = (),
        pads: Sequence[int] = (), ceil_mode: int = 0, count_include_pad: int = 0) -> Tensor:
    return functional.avg_pool2d(
        x, kernel_shape, strides or 1, _same_on_both_sides(pads) or 0, bool(ceil_mode),
        bool(count_include_pad))


@_operator('BatchNormalization')
def _batch_normalization(
        x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, *,
        epsilon: float = 1e-5, momentum: float = 0.9, training_mode: int = 0) -> Tensor:
    if training_mode:
        raise TypeError('norms that are still being trained are not supported')
    return functional.batch_norm(x, mean, variance, scale, bias, eps=epsilon)


@_operator('Cast')
def _cast(x: Tensor, *, to: int) -> Tensor:
    if to not in _TYPES:
        raise TypeError(f'numbers of ONNX type {to} are not supported')
    return x.to(_TYPES[to])


@_operator('Clip', tensors=1)
def _clip(x: Tensor, least: float | None = None, most: float | None = None) -> Tensor:
    return torch.clamp(x, least, most)


@_operator('Concat')
def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


@_operator('ConstantOfShape', tensors=0)
def _constant_of_shape(shape: Sequence[int], *, value: Tensor | None = None) -> Tensor:
    return torch.zeros(shape) if value is None else value.reshape(()).expand(shape).clone()


@_operator('Constant')
def _constant(*, value: Tensor) -> Tensor:
    return value


@_operator('Conv')
def _conv(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *,
        kernel_shape: Sequence[int] = (), strides: Sequence[int] = (), pads: Sequence[int] = (),
        dilations: Sequence[int] = (), group: int = 1) -> Tensor:
    return _CONVOLUTIONS[weight.ndim](
        x, weight, bias, strides or 1, _same_on_both_sides(pads) or 0, dilations or 1, group)


@_operator('ConvTranspose')
def _conv_transpose(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, *,
        kernel_shape: Sequence[int] = (), strides: Sequence[int] = (), pads: Sequence[int] = (),
        output_padding: Sequence[int] = (), dilations: Sequence[int] = (),
        group: int = 1) -> Tensor:
    return functional.conv_transpose2d(
        x, weight, bias, strides or 1, _same_on_both_sides(pads) or 0, output_padding or 0, group,
        dilations or 1)


@_operator('Div')
def _div(x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode=None if x.is_floating_point() else 'trunc')


@_operator('Expand', tensors=1)
def _expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape))


@_operator('Flatten')
def _flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    return x.reshape(x.shape[:axis].numel(), -1)


@_operator('Gather')
def _gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    axis %= x.ndim
    # An index without axes would be read back from the GPU.
    found = x[(*(slice(None),) * axis, indices.reshape(-1))]
    return found.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1:])


@_operator('Gemm')
def _gemm(
        a: Tensor, b: Tensor, c: Tensor | None = None, *, alpha: float = 1.0, beta: float = 1.0,
        transA: int = 0, transB: int = 0) -> Tensor:  # noqa: N803
    a, b = a.T if transA else a, b.T if transB else b
    return alpha * (a @ b) if c is None else torch.addmm(c, a, b, beta=beta, alpha=alpha)


@_operator('GridSample')
def _grid_sample(
        x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: bytes = b'bilinear',
        padding_mode: bytes = b'zeros') -> Tensor:
    # Since opset 20 bilinear is called linear.
    mode = {b'linear': b'bilinear'}.get(mode, mode)
    return functional.grid_sample(
        x, grid, mode.decode(), padding_mode.decode(), bool(align_corners))


@_operator('LayerNormalization')
def _layer_normalization(
        x: Tensor, scale: Tensor, bias: Tensor | None = None, *, axis: int = -1,
        epsilon: float = 1e-5, stash_type: int = 1) -> Tensor:
    return functional.layer_norm(x, x.shape[axis:], scale, bias, epsilon)


@_operator('MaxPool')
def _max_pool(
        x: Tensor, *, kernel_shape: Sequence[int], strides: Sequence[int] = (),
        pads: Sequence[int] = (), dilations: Sequence[int] = (), ceil_mode: int = 0) -> Tensor:
    return functional.max_pool2d(
        x, kernel_shape, strides or 1, _same_on_both_sides(pads) or 0, dilations or 1,
        bool(ceil_mode))


@_operator('Mod')
def _mod(x: Tensor, y: Tensor, *, fmod: int = 0) -> Tensor:
    return torch.fmod(x, y) if fmod else torch.remainder(x, y)


@_operator('Pad', tensors=1)
def _pad(
        x: Tensor, pads: Sequence[int], value: float | None = None,
        axes: Sequence[int] | None = None, *, mode: bytes = b'constant') -> Tensor:
    if mode != b'constant':
        raise TypeError(f'mode {mode.decode()!r} is not supported')
    both = [(0, 0)] * x.ndim
    axes = range(x.ndim) if axes is None else axes
    for axis, before, after in zip(axes, pads, pads[len(pads) // 2:]):
        both[axis] = (before, after)
    # torch counts axes from the last one.
    return functional.pad(x, [size for pair in both[::-1] for size in pair], value=value or 0.0)


@_operator('Pow')
def _pow(x: Tensor, y: Tensor) -> Tensor:
    return torch.pow(x, y).to(x.dtype)


@_operator('PRelu')
def _prelu(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x >= 0, x, slope * x)


@_operator('Range', tensors=0)
def _range(start: int, limit: int, delta: int) -> Tensor:
    return torch.arange(start, limit, delta)


@_operator('ReduceMax', tensors=1)
def _reduce_max(x: Tensor, axes: Sequence[int], *, keepdims: int = 1) -> Tensor:
    return torch.amax(x, tuple(axes), bool(keepdims))


@_operator('ReduceL2', tensors=1)
def _reduce_l2(x: Tensor, axes: Sequence[int], *, keepdims: int = 1) -> Tensor:
    return torch.linalg.vector_norm(x, dim=tuple(axes), keepdim=bool(keepdims))


@_operator('ReduceMean', tensors=1)
def _reduce_mean(x: Tensor, axes: Sequence[int], *, keepdims: int = 1) -> Tensor:
    return torch.mean(x, tuple(axes), bool(keepdims))


@_operator('ReduceSum', tensors=1)
def _reduce_sum(x: Tensor, axes: Sequence[int], *, keepdims: int = 1) -> Tensor:
    return torch.sum(x, tuple(axes), bool(keepdims))


@_operator('Reshape', tensors=1)
def _reshape(x: Tensor, shape: Sequence[int], *, allowzero: int = 0) -> Tensor:
    return x.reshape(shape if allowzero else [
        x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


@_operator('Resize', tensors=1)
def _resize(
        x: Tensor, roi: None = None, scales: Sequence[float] = (), *, mode: bytes = b'nearest',
        coordinate_transformation_mode: bytes = b'half_pixel',
        nearest_mode: bytes = b'round_prefer_floor', cubic_coeff_a: float = -0.75) -> Tensor:
    asked = mode, coordinate_transformation_mode, nearest_mode
    if asked != (b'nearest', b'asymmetric', b'floor') or any(
            scale % 1 or scale < 1 for scale in scales):
        raise TypeError(f'only whole pixels can be repeated, not {asked} by {list(scales)}')
    for axis, scale in enumerate(scales):
        x = x.repeat_interleave(int(scale), axis) if scale > 1 else x
    return x


@_operator('RoiAlign')
def _roi_align(
        x: Tensor, boxes: Tensor, rows: Tensor, *, output_height: int = 1, output_width: int = 1,
        mode: bytes = b'avg', sampling_ratio: int = 0, spatial_scale: float = 1.0,
        coordinate_transformation_mode: bytes = b'half_pixel') -> Tensor:
    asked = mode, sampling_ratio, coordinate_transformation_mode
    if asked != (b'avg', 0, b'output_half_pixel'):
        raise TypeError(f'only means of as many samples as pixels, not {asked}')
    return torch_crops.roi_align(x[rows], spatial_scale * boxes, output_height, output_width)


@_operator('Shape')
def _shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    return torch.tensor(x.shape[start:end])


@_operator('Slice', tensors=1)
def _slice(
        x: Tensor, starts: Sequence[int], ends: Sequence[int],
        axes: Sequence[int] | None = None, steps: Sequence[int] | None = None) -> Tensor:
    for axis, start, end, step in zip(
            range(x.ndim) if axes is None else axes, starts, ends, steps or [1] * len(starts)):
        places = range(*slice(start, end, step).indices(x.shape[axis]))
        # torch counts forward only.
        forward = places if step > 0 else places[::-1]
        part = slice(forward.start, max(forward.start, forward.stop), forward.step)
        x = x[(*(slice(None),) * (axis % x.ndim), part)]
        x = x if step > 0 else x.flip(axis)
    return x


@_operator('Softmax')
def _softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    return torch.softmax(x, axis)


@_operator('Split', tensors=1)
def _split(x: Tensor, split: Sequence[int], *, axis: int = 0) -> Sequence[Tensor]:
    return torch.split(x, split, axis)


@_operator('Squeeze', tensors=1)
def _squeeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    return x.squeeze(tuple(axes))


@_operator('Tile', tensors=1)
def _tile(x: Tensor, repeats: Sequence[int]) -> Tensor:
    return x.repeat(repeats)


@_operator('Transpose')
def _transpose(x: Tensor, *, perm: Sequence[int]) -> Tensor:
    return x.permute(perm)


@_operator('Unsqueeze', tensors=1)
def _unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _same_on_both_sides(pads: Sequence[int]) -> Sequence[int]:
    """Return the sizes of a border that begins and ends alike, as torch takes it."""
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise TypeError(f'a border of {list(pads)}, which differs between two sides, is not '
                        'supported')
    return pads[:half]
