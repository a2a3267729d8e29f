"""Small dense least-squares problems, with bounds and penalties."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from talkingface.renderer.arrays import Float32Array, Float64Array, Int64Array
from talkingface.renderer.compiler import njit

DAMPING = 1e-6  # on the diagonal of the normal equations
MAX_ZOOM = 0.5  # natural logarithm of the change of scale in one step
MAX_SWEEPS, CONVERGED = 60, 2e-4  # of coordinate descent; largest change of a coefficient


class Poses(NamedTuple):
    """Poses of T frames, which a solver improves in place."""

    rotation: Float64Array  # (T, 3, 3)
    scale: Float64Array  # (T,) pixels a face width
    translation: Float64Array  # (T, 2) pixels


# Numba hands matrix products and solvers to SciPy, which is no run-time dependency.
@njit(cache=True)
def product(a: Float64Array, b: Float64Array) -> Float64Array:
    """The product of two matrices (3, 3)."""
    out = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                out[i, j] += a[i, k] * b[k, j]
    return out


@njit(cache=True)
def solve(matrix: Float64Array, right: Float64Array) -> Float64Array:
    """Solve a positive definite system by elimination; both arguments are overwritten."""
    size = len(right)
    for i in range(size):
        for j in range(i + 1, size):
            factor = matrix[j, i] / matrix[i, i]
            for k in range(i, size):
                matrix[j, k] -= factor * matrix[i, k]
            right[j] -= factor * right[i]
    for i in range(size - 1, -1, -1):
        for k in range(i + 1, size):
            right[i] -= matrix[i, k] * right[k]
        right[i] /= matrix[i, i]
    return right


@njit(cache=True)
def gauss_newton(
    points: Float32Array,
    shape: Float32Array,
    used: Int64Array,
    weight: Float32Array,
    steps: int,
    poses: Poses,
) -> None:
    """Improve poses in place, frame by frame, so that landmarks project to their pixels.

    :param points: (T, N, 2) pixels.
    :param shape: (T, N, 3) unposed head landmarks.
    :param used: indices of the landmarks that count, with `weight` (N,).
    """
    rotation, scale, translation = poses
    jx, jy = np.zeros(6), np.zeros(6)
    jx[4] = jy[5] = 1.0
    for t in range(len(points)):
        for _ in range(steps):
            normal = DAMPING * np.eye(6)
            right = np.zeros(6)
            r = rotation[t]
            for n in used:
                u, v, w = shape[t, n, 0], shape[t, n, 1], shape[t, n, 2]
                x = r[0, 0] * u + r[0, 1] * v + r[0, 2] * w
                y = r[1, 0] * u + r[1, 1] * v + r[1, 2] * w
                z = r[2, 0] * u + r[2, 1] * v + r[2, 2] * w
                jx[1], jx[2], jx[3] = z, -y, x
                jy[0], jy[2], jy[3] = z, -x, -y
                gx = (points[t, n, 0] - translation[t, 0]) / scale[t] - x
                gy = (points[t, n, 1] - translation[t, 1]) / scale[t] + y
                for i in range(6):
                    right[i] += weight[n] * (jx[i] * gx + jy[i] * gy)
                    for j in range(6):
                        normal[i, j] += weight[n] * (jx[i] * jx[j] + jy[i] * jy[j])
            step = solve(normal, right)
            rotation[t] = product(_rotation(step), r.copy())
            translation[t, 0] += scale[t] * step[4]
            translation[t, 1] += scale[t] * step[5]
            scale[t] *= np.exp(min(max(step[3], -MAX_ZOOM), MAX_ZOOM))


@njit(cache=True)
def _rotation(step: Float64Array) -> Float64Array:
    """The rotation (3, 3) about an axis, by Rodrigues' formula.

    :param step: (3+,) axis times angle in radians, in image axes.
    """
    angle = np.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2) + 1e-12
    k = np.zeros((3, 3))
    k[0, 1], k[0, 2], k[1, 2] = -step[2] / angle, step[1] / angle, -step[0] / angle
    k[1, 0], k[2, 0], k[2, 1] = -k[0, 1], -k[0, 2], -k[1, 2]
    rotation: Float64Array = np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * product(k, k)
    return rotation


@njit(cache=True)
def bounded_least_squares(
    grams: Float32Array,
    rights: Float32Array,
    ridge: Float32Array,
    linear: float,
    jaw: int,
    close: int,
    out: Float32Array,
) -> None:
    """Minimise c'Gc/2 - r'c + ridge c^2/2 + linear c over 0 <= c <= 1 by coordinate descent.

    `mouthClose` may not exceed `jawOpen`: it closes lips over an open jaw and means nothing else.

    :param grams: (T, C, C) matrices G.
    :param rights: (T, C) vectors r.
    :param ridge: (C,) quadratic penalty.
    :param linear: L1 penalty.
    :param jaw: index of `jawOpen` among the C coefficients; `close`: that of `mouthClose`.
    :param out: (T, C) in: where to start, out: the coefficients.
    """
    frames, size = out.shape
    for t in range(frames):
        g, c = grams[t], out[t]
        for _ in range(MAX_SWEEPS):
            change = 0.0
            for i in range(size):
                slope = rights[t, i] - linear
                for j in range(size):
                    if j != i:
                        slope -= g[i, j] * c[j]
                value = min(max(slope / (g[i, i] + ridge[i]), 0.0), 1.0)
                if i == close:
                    value = min(value, c[jaw])
                change = max(change, abs(value - c[i]))
                c[i] = value
            if change < CONVERGED:
                break
