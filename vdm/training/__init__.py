"""The computations of training: objective, state, step, prefetching, gradient noise. The loop is `vdm.train`."""
