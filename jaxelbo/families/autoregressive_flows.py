"""Inverse autoregressive flow: each entry of the noise is shifted and scaled as those before it say."""

from jaxelbo import flattening
from jaxelbo.families.transported_noise import checked_counts, flow_family
from jaxelbo.flows import autoregressive, layers, one_number
from jaxelbo.types import Family, Latent


def autoregressive_flow(
    latent_like: Latent, *, num_layers: int, width: int, num_context: int = 0, initial_scale: float = 0.1
) -> Family:
    """Inverse autoregressive flow: in each layer, entry i is shifted and scaled by a network of the entries before it.

    The noise z_0 ~ N(0, I) goes through L layers, each with one masked network for all entries, in reversed order from
    layer to layer; at the end z = loc + exp(log_scale) * z_L. Draws are reparameterised, and drawing is one pass.
    ``log_prob`` of a given latent finds entry after entry: L scans of D steps, about the arithmetic of one pass, but in
    sequence. Its params are ``{"loc": [D], "log_scale": [D], "layers": {"weight_in": [L, D + C, W], "bias_in": [L, W],
    "weight_out": [L, W, 2 D], "bias_out": [L, 2 D]}}`` on the flat latent of D entries (all leaves, ravelled and joined
    in the order of ``jax.tree.leaves``); of the weights, only those that the masks let through are read. Where
    num_context > 0 there is one more leaf, ``"context": [C]``, a further input of the networks: put what an encoder
    returned in that place, ``params | {"context": encoder(x)}``, under ``vmap`` over the data.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      num_layers: L, static, at least 1; with one, the first entry stays Gaussian.
      width: W, hidden units of a layer's network, static, at least 1; they are dealt out to the entries evenly, so take
        a few times D.
      num_context: C, static; 0 for params without a context.
      initial_scale: standard deviation of every entry after ``init``; positive.

    Returns:
      The `Family`. After ``init`` it is the Gaussian of `families.mean_field`, exactly. A latent of one number stays
      Gaussian, given its context.

    Raises:
      TypeError: a leaf that is not floating-point, by its path; counts that are no integers.
      ValueError: an empty pytree, counts that are too small, a scale that is not positive.

    References:
      Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling (2016), *Improved Variational Inference with Inverse
      Autoregressive Flow*;
      Germain, Gregor, Murray, Larochelle (2015), *MADE: Masked Autoencoder for Distribution Estimation*.

    >>> import jax
    >>> family = autoregressive_flow({"slope": 0.0, "offsets": jax.numpy.zeros(3)}, num_layers=2, width=16)
    >>> params = family.init(jax.random.key(0))
    >>> latent, log_q = family.sample_and_log_prob(params, jax.random.key(1))
    >>> bool(abs(family.log_prob(params, latent) - log_q) < 1e-4)
    True
    """
    layout = flattening.layout_of(latent_like)
    num_layers, width, num_context = checked_counts(num_layers, width, num_context)
    layer = autoregressive.autoregressive(layout.size, num_context, width, one_number.affine(), layout.dtype)
    flow = layers.chain(layer, num_layers)
    return flow_family("autoregressive_flow", latent_like, initial_scale, num_context, layout, flow)
