"""What training computes: objective, state, step, batches ahead of it, gradient noise. The loop is `vdm.train`."""
