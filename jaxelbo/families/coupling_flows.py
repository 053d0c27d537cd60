"""Flows of coupling layers: affine (Real NVP) and rational-quadratic splines."""

from jaxelbo import checks, flattening
from jaxelbo.families.transported_noise import checked_counts, flow_family
from jaxelbo.flows import couplings, layers, one_number, splines
from jaxelbo.types import Family, Latent


def affine_coupling_flow(
    latent_like: Latent, *, num_layers: int, width: int, num_context: int = 0, initial_scale: float = 0.1
) -> Family:
    """Real NVP: half of the entries say by a network how the others are shifted and scaled, layer after layer.

    The noise z_0 ~ N(0, I) goes through L layers, in each of which half of the entries stay and a network of them gives
    shift and scale of the others; the halves change places, and at the end z = loc + exp(log_scale) * z_L. Draws are
    reparameterised, and both drawing and ``log_prob`` are one pass. Its params are ``{"loc": [D], "log_scale": [D],
    "layers": {"weight_in": [L, D // 2 + C, W], "bias_in": [L, W], "weight_out": [L, W, 2 (D - D // 2)], "bias_out":
    [L, 2 (D - D // 2)]}}`` on the flat latent of D entries (all leaves, ravelled and joined in the order of
    ``jax.tree.leaves``). Where num_context > 0 they have one more leaf, ``"context": [C]``, which the networks take as
    input: for amortised inference keep one set of params and put what an encoder returned in that place,
    ``params | {"context": encoder(x)}``, under ``vmap`` over the data. Any other leaf can come from the encoder too.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      num_layers: L, static, at least 1; with one, half of the entries stay Gaussian.
      width: W, hidden units of a layer's network, static, at least 1.
      num_context: C, static; 0 for params without a context.
      initial_scale: standard deviation of every entry after ``init``; positive.

    Returns:
      The `Family`. After ``init`` it is the Gaussian of `families.mean_field`, exactly; the key draws the networks'
      first weights.

    Raises:
      TypeError: a leaf that is not floating-point, by its path; counts that are no integers.
      ValueError: an empty pytree or a latent of one number, counts that are too small, a scale that is not positive.

    References:
      Dinh, Sohl-Dickstein, Bengio (2017), *Density Estimation Using Real NVP*;
      Rezende, Mohamed (2015), *Variational Inference with Normalizing Flows*.

    >>> import jax
    >>> family = affine_coupling_flow({"slope": 0.0, "offsets": jax.numpy.zeros(3)}, num_layers=4, width=8)
    >>> params = family.init(jax.random.key(0))
    >>> latent, log_q = family.sample_and_log_prob(params, jax.random.key(1))
    >>> bool(abs(family.log_prob(params, latent) - log_q) < 1e-4)
    True
    """
    layout = flattening.layout_of(latent_like)
    if layout.size < 2:
        raise ValueError(
            "affine_coupling_flow needs a latent of at least 2 entries, got 1, which families.spline_flow can bend."
        )
    num_layers, width, num_context = checked_counts(num_layers, width, num_context)
    layer = couplings.coupling(layout.size, num_context, width, one_number.affine(), layout.dtype)
    flow = layers.chain(layer, num_layers)
    return flow_family("affine_coupling_flow", latent_like, initial_scale, num_context, layout, flow)


def spline_flow(
    latent_like: Latent,
    *,
    num_layers: int,
    width: int,
    num_bins: int,
    num_context: int = 0,
    initial_scale: float = 0.1,
) -> Family:
    """Neural spline flow: as `families.affine_coupling_flow`, but entries are moved by rational-quadratic splines.

    A layer moves an entry by an increasing spline of K bins: its 3 K - 1 widths, heights and slopes are what a network
    makes of the entries that stay. Splines live in [-4, 4], in units of the noise, and are the identity outside, so
    tails are Gaussian. Both drawing and ``log_prob`` are one pass; in float32 ``log_prob`` loses digits where a fit has
    made splines nearly flat, while ``sample_and_log_prob`` does not. Its params are ``{"loc": [D], "log_scale": [D],
    "layers": {"weight_in": [L, D // 2 + C, W], "bias_in": [L, W], "weight_out": [L, W, (3 K - 1) (D - D // 2)],
    "bias_out": [L, (3 K - 1) (D - D // 2)]}}``, and ``"context": [C]`` where num_context > 0, as in
    `families.affine_coupling_flow`. For a latent of one number, nothing stays: the spline is one of the biases and the
    context.

    Args:
      latent_like: a latent, or its shapes (``jax.ShapeDtypeStruct``); also the default start.
      num_layers: L, static, at least 1; with one, half of the entries stay Gaussian.
      width: W, hidden units of a layer's network, static, at least 1.
      num_bins: K, static, from 2 to 100.
      num_context: C, static; 0 for params without a context.
      initial_scale: standard deviation of every entry after ``init``; positive.

    Returns:
      The `Family`. After ``init`` it is the Gaussian of `families.mean_field`, to rounding.

    Raises:
      TypeError: a leaf that is not floating-point, by its path; counts that are no integers.
      ValueError: an empty pytree, counts that are too small or too large, a scale that is not positive.

    References:
      Durkan, Bekasov, Murray, Papamakarios (2019), *Neural Spline Flows*;
      Gregory, Delbourgo (1982), *Piecewise Rational Quadratic Interpolation to Monotonic Data*.

    >>> import jax
    >>> family = spline_flow(jax.numpy.zeros(2), num_layers=2, width=8, num_bins=4, num_context=3)
    >>> params = family.init(jax.random.key(0))
    >>> contexts = jax.numpy.ones((5, 3))  # of five data
    >>> draw = lambda context, key: family.sample(params | {"context": context}, key)
    >>> jax.vmap(draw)(contexts, jax.random.split(jax.random.key(1), 5)).shape
    (5, 2)
    """
    layout = flattening.layout_of(latent_like)
    num_layers, width, num_context = checked_counts(num_layers, width, num_context)
    num_bins = checks.check_count(num_bins, "num_bins", minimum=2)
    if num_bins > 100:  # each has at least a thousandth of the interval
        raise ValueError(f"num_bins must be at most 100, got {num_bins}.")
    increasing = splines.rational_quadratic(num_bins)
    layer = couplings.coupling(layout.size, num_context, width, increasing, layout.dtype)
    flow = layers.chain(layer, num_layers)
    return flow_family("spline_flow", latent_like, initial_scale, num_context, layout, flow)
