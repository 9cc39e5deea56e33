"""TensorFlow files. Only the worker, a process of its own, imports TensorFlow."""
