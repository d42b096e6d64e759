"""In which floating-point format a run computes, and what the processor can do."""

import os
from pathlib import Path

# What this process may run on, which a container or taskset can limit.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_precision(requested, asked="as asked"):
    """Resolves the precision `auto`: bfloat16 where the hardware multiplies in it.

    Args:
        requested: Of `settings.PRECISIONS`.
        asked: The reason for any other than `auto`.

    Returns:
        The name of a Keras dtype policy, and the reason for it.
    """
    if requested != "auto":
        if in_hardware(requested):
            return requested, asked
        return (
            requested,
            f"{asked}; this CPU is not known to compute in it: slow, and perhaps inexact",
        )
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        # Tensor cores take bfloat16 from compute capability 8.0 (NVIDIA's Ampere).
        if details.get("compute_capability", (0, 0)) >= (8, 0):
            return "mixed_bfloat16", f"{details['device_name']} supports bfloat16"
        return "float32", "the GPU has no bfloat16 arithmetic"
    if found := bfloat16_instructions():
        return "mixed_bfloat16", f"the CPU has {found}"
    return "float32", "the CPU has no bfloat16 instructions"


def in_hardware(policy):
    """Says whether this machine is known to compute in the format of a Keras dtype policy, by its name.

    No CPU is known to compute in float16: there, average pooling sums in it, too, so that the mean of
    5,041 threes is 4, and that of 1,600 hundreds infinite.
    """
    if policy == "mixed_float16":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    return policy != "mixed_bfloat16" or not emulates()


def emulates():
    """Says whether this machine is not known to compute in bfloat16, so that it may emulate that.

    On a CPU without AVX-512, TensorFlow then sums averages in bfloat16, too: that of many equal numbers
    is off by a quarter.
    """
    import tensorflow as tf

    return not (tf.config.list_physical_devices("GPU") or bfloat16_instructions())


def emulated(model):
    """Says whether a Keras model has layers that compute in 16 bits, which this machine may emulate."""
    return not all(map(in_hardware, {layer.dtype_policy.name for layer in model.layers}))


def computes_in_bfloat16(requested):
    """Says, without importing TensorFlow, whether a processor would compute in bfloat16, and fast."""
    return requested in ("auto", "mixed_bfloat16") and bool(bfloat16_instructions())


def bfloat16_instructions():
    """Names the processor's instructions that multiply in bfloat16; None where none are known."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return min(flags & {"avx512_bf16", "amx_bf16", "bf16"}, default=None)
