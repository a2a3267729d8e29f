"""Compilers of the pixel functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba.core.compiler import CompilerBase, DefaultPassBuilder

from talkingface.renderer.compiler import njit

F = TypeVar("F", bound=Callable[..., Any])
_njit: Any = njit  # not all of its options have types


class _DistinctArrays(CompilerBase):
    """Compile for arrays that do not overlap: else no loop that gathers pixels is vectorised."""

    def define_pipelines(self) -> list[Any]:
        self.state.flags.noalias = True
        builder: Any = DefaultPassBuilder  # it has no types
        return [builder.define_nopython_pipeline(self.state)]


# Wrappers by which C code, or Python, calls a function take a fifth of the time to compile it.
def device(function: F) -> F:
    """Compile a function of one pixel or triangle, callable from loops and from CUDA kernels."""
    compiled: F = _njit(
        function,
        cache=True,
        fastmath=True,
        error_model="numpy",
        forceinline=True,
        no_cfunc_wrapper=True,
    )
    return compiled


def loop(function: F) -> F:
    """Compile a loop over pixels or triangles for the CPU; its arrays must not overlap.

    Private ones are called by other loops alone: called from Python they would end the process.
    """
    compiled: F = _njit(
        function,
        cache=True,
        fastmath=True,
        error_model="numpy",
        nogil=True,
        no_cfunc_wrapper=True,
        no_cpython_wrapper=function.__name__.startswith("_"),
        pipeline_class=_DistinctArrays,
    )
    return compiled
