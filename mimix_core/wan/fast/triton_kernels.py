"""Triton kernels for what a Wan block computes between its large operators, on CUDA GPUs.

Each reads its operands once and writes its results once, and sums in fp32. A program has one token,
whose channels it holds in parts of a power of two, or one piece of a flat tensor. Triton compiles
the functions from their source; so they have no annotations but those that it reads.
``triton_launch`` calls them.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(ptr, start, PARTS: tl.constexpr, CHUNK: tl.constexpr):
    """Load a row in fp32, as a tuple of parts."""
    parts = ()
    for part in tl.static_range(PARTS):
        parts = parts + (tl.load(ptr + start + part * CHUNK + tl.arange(0, CHUNK)).to(tl.float32),)
    return parts


@triton.jit
def _store(ptr, start, part, CHUNK: tl.constexpr, values):
    tl.store(ptr + start + part * CHUNK + tl.arange(0, CHUNK), values.to(ptr.dtype.element_ty))


@triton.jit
def _add_pairs(a, b, c, d):
    return a + c, b + d


@triton.jit
def norm_kernel(
    x_ptr, added_ptr, gate_ptr, factor_ptr, offset_ptr, sum_ptr, out_ptr, tokens_per_set, eps,
    ADD: tl.constexpr, GATE: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = WIDTH // CHUNK
    token = tl.program_id(0).to(tl.int64)
    values = (token // tokens_per_set) * WIDTH
    row = token * WIDTH
    x = _load(x_ptr, row, PARTS, CHUNK)
    if ADD:
        added = _load(added_ptr, row, PARTS, CHUNK)
        if GATE:
            gate = _load(gate_ptr, values, PARTS, CHUNK)
        sums = ()
        for part in tl.static_range(PARTS):
            if GATE:
                rounded = (x[part] + added[part] * gate[part]).to(sum_ptr.dtype.element_ty)
            else:
                rounded = (x[part] + added[part]).to(sum_ptr.dtype.element_ty)
            _store(sum_ptr, row, part, CHUNK, rounded)
            sums = sums + (rounded.to(tl.float32),)
        x = sums
    total = x[0]
    for part in tl.static_range(1, PARTS):
        total += x[part]
    mean = tl.sum(total, 0) / WIDTH
    centered = ()
    for part in tl.static_range(PARTS):
        centered = centered + (x[part] - mean,)
    squares = centered[0] * centered[0]
    for part in tl.static_range(1, PARTS):
        squares += centered[part] * centered[part]
    scale = tl.rsqrt(tl.sum(squares, 0) / WIDTH + eps)
    factor = _load(factor_ptr, values, PARTS, CHUNK)
    offset = _load(offset_ptr, values, PARTS, CHUNK)
    for part in tl.static_range(PARTS):
        _store(out_ptr, row, part, CHUNK, centered[part] * scale * factor[part] + offset[part])


@triton.jit
def norm_grad_kernel(
    grad_ptr, x_ptr, factor_ptr, residual_ptr, gate_ptr, out_ptr, gated_ptr, tokens_per_set, eps,
    RESIDUAL: tl.constexpr, GATE: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = WIDTH // CHUNK
    token = tl.program_id(0).to(tl.int64)
    values = (token // tokens_per_set) * WIDTH
    row = token * WIDTH
    x = _load(x_ptr, row, PARTS, CHUNK)
    unscaled = _load(grad_ptr, row, PARTS, CHUNK)
    factor = _load(factor_ptr, values, PARTS, CHUNK)
    grad = ()
    for part in tl.static_range(PARTS):
        grad = grad + (unscaled[part] * factor[part],)
    total = x[0]
    grads = grad[0]
    for part in tl.static_range(1, PARTS):
        total += x[part]
        grads += grad[part]
    total, grads = tl.reduce((total, grads), 0, _add_pairs)
    mean = total / WIDTH
    centered = ()
    for part in tl.static_range(PARTS):
        centered = centered + (x[part] - mean,)
    squares = centered[0] * centered[0]
    along = grad[0] * centered[0]
    for part in tl.static_range(1, PARTS):
        squares += centered[part] * centered[part]
        along += grad[part] * centered[part]
    squares, along = tl.reduce((squares, along), 0, _add_pairs)
    scale = tl.rsqrt(squares / WIDTH + eps)
    slope = along / WIDTH * scale * scale
    shift = grads / WIDTH
    if RESIDUAL:
        residual = _load(residual_ptr, row, PARTS, CHUNK)
    if GATE:
        gate = _load(gate_ptr, values, PARTS, CHUNK)
    for part in tl.static_range(PARTS):
        out = (grad[part] - shift - centered[part] * slope) * scale
        if RESIDUAL:
            out += residual[part]
        _store(out_ptr, row, part, CHUNK, out)
        if GATE:
            _store(gated_ptr, row, part, CHUNK, out * gate[part])


@triton.jit
def _angles(cos_ptr, sin_ptr, position, start, HEAD: tl.constexpr, CHUNK: tl.constexpr):
    """Load the cosine and the signed sine of each channel of a part of a row."""
    channel = start + tl.arange(0, CHUNK)
    cos = tl.load(cos_ptr + position * HEAD + channel % HEAD)
    sin = tl.load(sin_ptr + position * HEAD + channel % HEAD)
    return cos, tl.where(channel % 2 == 0, -sin, sin)


@triton.jit
def _turn(x, cos, sin, CHUNK: tl.constexpr):
    first, second = tl.split(tl.reshape(x, (CHUNK // 2, 2)))
    return x * cos + tl.reshape(tl.join(second, first), (CHUNK,)) * sin


@triton.jit
def heads_kernel(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, out_ptr, root_ptr, positions, eps,
    ROTARY: tl.constexpr, HEAD: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = WIDTH // CHUNK
    token = tl.program_id(0).to(tl.int64)
    row = token * WIDTH
    x = _load(x_ptr, row, PARTS, CHUNK)
    weight = _load(weight_ptr, 0, PARTS, CHUNK)
    squares = x[0] * x[0]
    for part in tl.static_range(1, PARTS):
        squares += x[part] * x[part]
    root = tl.rsqrt(tl.sum(squares, 0) / WIDTH + eps)
    tl.store(root_ptr + token, root)
    if ROTARY:
        cos, sin = _angles(cos_ptr, sin_ptr, token % positions, 0, HEAD, CHUNK)
    for part in tl.static_range(PARTS):
        normal = (x[part] * root * weight[part]).to(out_ptr.dtype.element_ty)
        if ROTARY:
            if part > 0 and CHUNK % HEAD != 0:
                cos, sin = _angles(cos_ptr, sin_ptr, token % positions, part * CHUNK, HEAD, CHUNK)
            _store(out_ptr, row, part, CHUNK, _turn(normal.to(tl.float32), cos, sin, CHUNK))
        else:
            _store(out_ptr, row, part, CHUNK, normal)


@triton.jit
def heads_grad_kernel(
    grad_ptr, normal_ptr, root_ptr, weight_ptr, cos_ptr, sin_ptr, out_ptr, positions,
    ROTARY: tl.constexpr, HEAD: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    PARTS: tl.constexpr = WIDTH // CHUNK
    token = tl.program_id(0).to(tl.int64)
    row = token * WIDTH
    normal = _load(normal_ptr, row, PARTS, CHUNK)
    grad = _load(grad_ptr, row, PARTS, CHUNK)
    weight = _load(weight_ptr, 0, PARTS, CHUNK)
    root = tl.load(root_ptr + token)
    if ROTARY:
        cos, sin = _angles(cos_ptr, sin_ptr, token % positions, 0, HEAD, CHUNK)
        turned = normal, grad
        normal, grad = (), ()
        for part in tl.static_range(PARTS):
            if part > 0 and CHUNK % HEAD != 0:
                cos, sin = _angles(cos_ptr, sin_ptr, token % positions, part * CHUNK, HEAD, CHUNK)
            normal = normal + (_turn(turned[0][part], cos, -sin, CHUNK),)
            grad = grad + (_turn(turned[1][part], cos, -sin, CHUNK),)
    products = grad[0] * normal[0]
    for part in tl.static_range(1, PARTS):
        products += grad[part] * normal[part]
    along = tl.sum(products, 0) / WIDTH
    for part in tl.static_range(PARTS):
        unweighted = tl.where(weight[part] == 0.0, 0.0, normal[part] / weight[part])
        _store(out_ptr, row, part, CHUNK, (grad[part] * weight[part] - unweighted * along) * root)


@triton.jit
def gelu_kernel(x_ptr, grad_ptr, out_ptr, GRAD: tl.constexpr, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + index).to(tl.float32)
    # (1 + tanh(u)) / 2 is the sigmoid of 2 u.
    share = 1.0 / (1.0 + tl.exp2(-2.302208198192 * (x + 0.044715 * x * x * x)))
    if GRAD:
        slope = 1.5957691216057308 * (1.0 + 0.134145 * x * x)
        out = share + x * share * (1.0 - share) * slope
        out *= tl.load(grad_ptr + index).to(tl.float32)
    else:
        out = x * share
    tl.store(out_ptr + index, out.to(out_ptr.dtype.element_ty))


@triton.jit
def adapter_up_kernel(
    bias_ptr, down_ptr, b_ptr, out_ptr, tokens, outputs, down_stride, scale,
    BIAS: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    STEPS: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    rank = tl.arange(0, RANK)
    present = column < outputs
    b = tl.load(b_ptr + column[:, None] * RANK + rank, mask=present[:, None], other=0.0)
    b = tl.trans((b * scale).to(out_ptr.dtype.element_ty))
    for step in range(STEPS):
        row = (tl.program_id(1).to(tl.int64) * STEPS + step) * ROWS + tl.arange(0, ROWS)
        inside = row < tokens
        down = tl.load(
            down_ptr + row[:, None] * down_stride + rank, mask=inside[:, None], other=0.0
        )
        out = tl.dot(down, b)
        if BIAS:
            out += tl.load(bias_ptr + column, mask=present, other=0.0).to(tl.float32)
        tl.store(
            out_ptr + row[:, None] * outputs + column,
            out.to(out_ptr.dtype.element_ty),
            mask=inside[:, None] & present,
        )
