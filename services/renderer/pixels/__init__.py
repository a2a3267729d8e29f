"""What is done for each pixel or triangle of a frame, written once for the CPU and for a GPU.

A *device function* works on one pixel or one triangle. numba compiles it into a loop for the CPU,
and numba-cuda into a kernel of one thread each. Images are packed: (H, W) uint32, a byte each for
red (lowest), green, blue and opacity, so that four channels are interpolated by two multiplications
and the compiler vectorises the loops.
"""
