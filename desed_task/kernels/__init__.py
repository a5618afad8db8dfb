"""Element-wise passes of the network, compiled by numba for the CPU, and the threads that run them.

PyTorch runs such a pass as one operation after another, each of which reads its input from memory
and writes its output back. A kernel here reads every value once. Matrix products stay PyTorch's.

Kernels take contiguous NumPy arrays, release the GIL and use one thread; `pieces` divides the work
among threads. Import them only where they are used: numba takes half a second.
"""
