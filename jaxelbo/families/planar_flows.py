"""Planar flow: the noise is pushed along one direction after the other."""

from jaxelbo import checks, flattening
from jaxelbo.families.transported_noise import flow_family
from jaxelbo.flows import layers, planes
from jaxelbo.types import Family, Latent


def planar_flow(latent_like: Latent, *, num_layers: int, initial_scale: float = 0.1) -> Family:
    """Planar flow: layer by layer, z becomes z + u tanh(w'z + b).

    The noise z_0 ~ N(0, I) goes through L layers, and at the end z = loc + exp(log_scale) * z_L. So that each layer is
    invertible, the part of u along w is bent until w'u > -1. Draws are reparameterised; ``log_prob`` of a given
    latent finds one scalar root a layer by Newton's method, and is differentiated by the implicit function theorem, to
    every order. Its params are ``{"loc": [D], "log_scale": [D], "layers": {"weight": [L, D], "bias": [L], "direction":
    [L, D]}}``, w, b and u, on the flat latent of D entries (all leaves, ravelled and joined in the order of
    ``jax.tree.leaves``). There are few enough of them that an encoder can return them all, so there is no form with a
    context. Each layer bends along one direction only: many are needed where many entries are not Gaussian.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      num_layers: L, static, at least 1.
      initial_scale: standard deviation of every entry after ``init``; positive.

    Returns:
      The `Family`. After ``init`` it is the Gaussian of `families.mean_field`, exactly; the key draws w and b.

    Raises:
      TypeError: a leaf that is not floating-point, by its path; a count that is no integer.
      ValueError: an empty pytree, num_layers below 1, a scale that is not positive.

    References:
      Rezende, Mohamed (2015), *Variational Inference with Normalizing Flows*.

    >>> import jax
    >>> family = planar_flow({"slope": 0.0, "offsets": jax.numpy.zeros(3)}, num_layers=8)
    >>> jax.tree.map(jax.numpy.shape, family.init(jax.random.key(0)))["layers"]
    {'bias': (8,), 'direction': (8, 4), 'weight': (8, 4)}
    """
    layout = flattening.layout_of(latent_like)
    num_layers = checks.check_count(num_layers, "num_layers")
    flow = layers.chain(planes.planar(layout.size, layout.dtype), num_layers)
    return flow_family("planar_flow", latent_like, initial_scale, 0, layout, flow)
