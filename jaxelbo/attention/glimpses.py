"""The glimpse sensor: concentric square patches around a location, each twice as wide, at one resolution.

Attention. A location is ``[2]``: down and across, (0, 0) the centre of the image, (-1, -1) its top left corner and
(1, 1) its bottom right one. Scale k of a glimpse covers size 2^k pixels a side. An image becomes a pyramid once, by
averaging over 2^k x 2^k pixels; a glimpse is then one small slice of each level. Outside of the image is 0.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxelbo import checks

Pyramid = tuple[jax.Array, ...]
"""Levels ``[H_k + 2 pad, W_k + 2 pad, C]``, finest first, with a margin of zeros of one glimpse on every side."""


def pyramid(image: jax.Array, *, size: int, num_scales: int = 1) -> Pyramid:
    """The image at every scale of the sensor, to be made once for all glimpses.

    Args:
      image: ``[H, W]`` or ``[H, W, C]``, floating-point. Sides that 2^k does not divide are continued by zeros.
      size: side of a glimpse in pixels of its own scale, static, at least 1, at most the image's sides.
      num_scales: how many patches a glimpse has, static, at least 1.

    Returns:
      The levels, finest first.

    Raises:
      TypeError, ValueError: naming the argument: an image of another rank or dtype, a glimpse larger than the image.

    References:
      Burt, Adelson (1983), *The Laplacian Pyramid as a Compact Image Code*; Mnih, Heess, Graves, Kavukcuoglu (2014),
      *Recurrent Models of Visual Attention*.

    >>> import jax.numpy as jnp
    >>> [level.shape for level in pyramid(jnp.ones((28, 28)), size=8, num_scales=2)]
    [(44, 44, 1), (30, 30, 1)]
    """
    image = _check_image(image)
    size, num_scales = checks.check_count(size, "size"), checks.check_count(num_scales, "num_scales")
    if size > min(image.shape[:2]):
        raise ValueError(f"size must be at most the image's sides {image.shape[:2]}, got {size}.")
    levels = []
    for scale in range(num_scales):
        levels.append(jnp.pad(image, ((size, size), (size, size), (0, 0))))
        if scale + 1 < num_scales:
            image = _halve(image)
    return tuple(levels)


def hard_glimpse(levels: Pyramid, location: jax.Array, *, size: int) -> jax.Array:
    """The patches around a location, cut at whole pixels of each scale; no gradient in the location.

    Args:
      levels: of `pyramid`, made for the same size.
      location: ``[2]``; what lies outside of [-1, 1] is moved to the border.
      size: side of a glimpse, static.

    Returns:
      ``[K, size, size, C]``, finest scale first.

    Raises:
      TypeError, ValueError: naming the argument, its shape or dtype.

    References:
      Mnih, Heess, Graves, Kavukcuoglu (2014), *Recurrent Models of Visual Attention*.

    >>> import jax.numpy as jnp
    >>> image = jnp.arange(16.0).reshape(4, 4)
    >>> hard_glimpse(pyramid(image, size=2), jnp.zeros(2), size=2)[0, :, :, 0]
    Array([[ 5.,  6.],
           [ 9., 10.]], dtype=float32)
    """
    corners = _corners(levels, location, size)
    return jnp.stack([
        _cut(level, jnp.round(jax.lax.stop_gradient(corner)).astype(jnp.int32), size)
        for level, corner in zip(levels, corners, strict=True)
    ])  # fmt: skip


def bilinear_glimpse(levels: Pyramid, location: jax.Array, *, size: int) -> jax.Array:
    """The patches around a location, interpolated between pixels; differentiable in the location.

    Args:
      levels: of `pyramid`, made for the same size.
      location: ``[2]``; what lies outside of [-1, 1] is moved to the border, where the gradient is zero.
      size: side of a glimpse, static.

    Returns:
      ``[K, size, size, C]``, finest scale first.

    Raises:
      TypeError, ValueError: naming the argument, its shape or dtype.

    References:
      Jaderberg, Simonyan, Zisserman, Kavukcuoglu (2015), *Spatial Transformer Networks*.

    >>> import jax, jax.numpy as jnp
    >>> levels = pyramid(jnp.arange(16.0).reshape(4, 4), size=2)
    >>> jax.grad(lambda location: jnp.mean(bilinear_glimpse(levels, location, size=2)))(jnp.full(2, 0.1)).round(3)
    Array([8., 2.], dtype=float32)
    """
    patches = []
    for level, corner in zip(levels, _corners(levels, location, size), strict=True):
        whole = jnp.floor(jax.lax.stop_gradient(corner))
        down, across = corner - whole
        patch = _cut(level, whole.astype(jnp.int32), size + 1)
        rows = (1 - down) * patch[:-1] + down * patch[1:]
        patches.append((1 - across) * rows[:, :-1] + across * rows[:, 1:])
    return jnp.stack(patches)


def pooled(image: jax.Array, side: int) -> jax.Array:
    """Means over squares of pixels, the image continued by zeros where they do not divide it.

    Args:
      image: ``[H, H]``, floating-point.
      side: of the squares in pixels, static.

    Returns:
      ``[h, h]``.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Ba, Mnih, Kavukcuoglu (2015), *Multiple Object Recognition with Visual Attention*.

    >>> import jax.numpy as jnp
    >>> pooled(jnp.ones((4, 4)), 2)
    Array([[1., 1.],
           [1., 1.]], dtype=float32)
    """
    checks.check_floating(image, "image", ("H", "H"))
    if image.shape[0] != image.shape[1]:
        raise ValueError(f"image must be square, got shape {image.shape}.")
    margin = -image.shape[0] % checks.check_count(side, "side")
    image = jnp.pad(image, ((0, margin), (0, margin)))
    count = image.shape[0] // side
    return jnp.mean(image.reshape(count, side, count, side), axis=(1, 3))


def check_square(image: jax.Array, image_size: int) -> None:
    """Requires one image of that side, without channels, between 0 and 1 where its values are known."""
    checks.check_floating(image, "image", ("H", "W"))
    if image.shape != (image_size,) * 2:
        raise ValueError(f"image must have shape {(image_size,) * 2}, got {image.shape}; vmap over images.")
    checks.check_unit_interval(image, "image")


def check_sizes(shape: Any) -> None:
    """Requires the sizes of a system: counts, a positive ``policy_scale``, a glimpse that fits into the image."""
    for name, value in shape._asdict().items():
        if name == "policy_scale":
            checks.check_real(value, "shape.policy_scale")
            if not checks.is_traced(value) and not value > 0:
                raise ValueError(f"shape.policy_scale must be positive, got {value}.")
        else:
            checks.check_count(value, f"shape.{name}")
    if shape.glimpse_size > shape.image_size:
        raise ValueError(
            f"shape.glimpse_size must be at most {shape.image_size}, the image's, got {shape.glimpse_size}."
        )


def _corners(levels: Pyramid, location: jax.Array, size: int) -> list[jax.Array]:
    """Top left corner of each patch on its padded level, in that level's pixels."""
    checks.check_floating(location, "location", ("2",))
    if location.shape != (2,):
        raise ValueError(f"location must have shape (2,), got {location.shape}.")
    size = checks.check_count(size, "size")
    fraction = (jnp.clip(location, -1, 1) + 1) / 2
    sides = jnp.asarray(levels[0].shape[:2], location.dtype) - 2 * size  # of the image itself
    return [fraction * sides / 2**scale + size - size / 2 for scale in range(len(levels))]


def _cut(level: jax.Array, corner: jax.Array, size: int) -> jax.Array:
    return jax.lax.dynamic_slice(level, (corner[0], corner[1], jnp.zeros_like(corner[0])), (size, size, level.shape[2]))


def _halve(image: jax.Array) -> jax.Array:
    """Means over 2 x 2 pixels."""
    height, width, channels = image.shape
    image = jnp.pad(image, ((0, height % 2), (0, width % 2), (0, 0)))
    return jnp.mean(image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2, channels), axis=(1, 3))


def _check_image(image: jax.Array) -> jax.Array:
    if getattr(image, "ndim", None) not in (2, 3) or not jnp.issubdtype(image.dtype, jnp.floating):
        raise TypeError(f"image must be floating-point, [H, W] or [H, W, C], got {checks.describe(image)}.")
    return jnp.asarray(image) if image.ndim == 3 else jnp.asarray(image)[:, :, None]
