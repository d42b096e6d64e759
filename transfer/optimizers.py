"""The optimizer of a run, and how its step becomes a small graph."""

import math

import keras
import tensorflow as tf

from transfer.settings import OPTIMIZERS


def make_optimizer(config, steps):
    """Makes the optimizer of a run of so many training steps."""

    rate = config.learning_rate
    if config.schedule == "cosine":
        warmup = steps // 10
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup
        )
    multiple, settings = OPTIMIZERS[config.optimizer]
    decay = config.weight_decay / multiple  # it is multiplied by the rate
    if not decay and config.optimizer != "adamw":  # AdamW refuses None
        decay = None
    # By a name of its own, Keras would count the optimizers of a process, and the file of a run that
    # was interrupted would differ from that of one that was not.
    settings = settings | {"learning_rate": rate, "weight_decay": decay, "name": config.optimizer}
    if config.averaging:
        momentum = math.exp(-1 / (config.averaging * steps))
        settings |= {"use_ema": True, "ema_momentum": momentum}
    return keras.optimizers.get({"class_name": config.optimizer, "config": settings})


def lean(optimizer):
    """Shrinks an optimizer's graph, which TensorFlow is slow to build; returns the optimizer.

    Keras evaluates the schedule once more for the weight decay of every variable, with a conditional
    each, and lays out Adam's update of a variable in some twenty operations. Here the schedule is
    evaluated once a step, and Adam's update is TensorFlow's own kernel for it, of the same formula.
    The optimizer stays of its class, so that a model saved with it can be loaded without this project.

    Args:
        optimizer: A `keras.optimizers.Optimizer` of float32 variables, not yet applied.
    """
    optimizer._get_current_learning_rate = _once_a_graph(optimizer._get_current_learning_rate)
    if type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad:
        optimizer.update_step = _adam_step(optimizer)
    return optimizer


def _once_a_graph(function):
    """Makes a function of no arguments that gives one tensor for all its calls in a graph."""
    known = {}

    def once():
        if tf.executing_eagerly():
            return function()
        graph = tf.compat.v1.get_default_graph()
        if known.get("graph") is not graph:
            known.update(graph=graph, value=function())
        return known["value"]

    return once


def _adam_step(optimizer):
    @_once_a_graph
    def powers():
        step = tf.cast(optimizer.iterations.value + 1, "float32")
        return tf.pow(optimizer.beta_1, step), tf.pow(optimizer.beta_2, step)

    def update_step(gradient, variable, learning_rate):
        index = optimizer._get_variable_index(variable)
        beta_1_power, beta_2_power = powers()
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=optimizer._momentums[index].value.handle,
            v=optimizer._velocities[index].value.handle,
            beta1_power=beta_1_power,
            beta2_power=beta_2_power,
            lr=tf.cast(learning_rate, "float32"),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=tf.cast(gradient, "float32"),
        )

    return update_step
