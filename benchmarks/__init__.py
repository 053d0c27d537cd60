"""Side by side with bare JAX and with peers, in one run."""
