"""The glimpse sensor against loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxelbo.attention import glimpses

RNG = np.random.default_rng(0)


def pixel(image, row, column, width):
    """Mean over the square of that width, zeros outside of the image."""
    total = 0.0
    for i in range(row * width, (row + 1) * width):
        for j in range(column * width, (column + 1) * width):
            inside = 0 <= i < image.shape[0] and 0 <= j < image.shape[1]
            total += image[i, j] if inside else 0.0
    return total / width**2


def naive(image, location, size, num_scales, whole):
    """Pixel by pixel, and between pixels by the four around."""
    patches = np.zeros((num_scales, size, size))
    for scale in range(num_scales):
        width = 2**scale
        centre = (np.clip(location, -1, 1) + 1) / 2 * image.shape[:2] / width
        corner = centre - size / 2
        corner = np.round(corner) if whole else corner
        base = np.floor(corner).astype(int)
        part = corner - base
        for i in range(size):
            for j in range(size):
                patches[scale, i, j] = sum(
                    (part[0] if di else 1 - part[0])
                    * (part[1] if dj else 1 - part[1])
                    * pixel(image, base[0] + i + di, base[1] + j + dj, width)
                    for di in (0, 1)
                    for dj in (0, 1)
                )
    return patches


@pytest.mark.parametrize("shape", [(28, 28), (13, 21)])
@pytest.mark.parametrize("location", [(0.0, 0.0), (-1.0, -1.0), (0.9, -0.35), (1.0, 1.0), (3.0, 0.2)])
def test_patches_by_pixels(shape, location):
    image, location = RNG.random(shape).astype(np.float32), np.array(location, np.float32)
    levels = glimpses.pyramid(jnp.asarray(image), size=6, num_scales=3)
    for cut, whole in ((glimpses.hard_glimpse, True), (glimpses.bilinear_glimpse, False)):
        ours = jax.jit(cut, static_argnames="size")(levels, jnp.asarray(location), size=6)
        assert ours.shape == (3, 6, 6, 1)
        np.testing.assert_allclose(ours[..., 0], naive(image, location, 6, 3, whole), atol=2e-6)


def test_channels_are_cut_alike():
    image = jnp.asarray(RNG.random((20, 20, 3)), jnp.float32)
    location = jnp.array([0.3, -0.6])
    together = glimpses.bilinear_glimpse(glimpses.pyramid(image, size=5, num_scales=2), location, size=5)
    for channel in range(3):
        levels = glimpses.pyramid(image[:, :, channel], size=5, num_scales=2)
        np.testing.assert_array_equal(
            together[..., channel : channel + 1], glimpses.bilinear_glimpse(levels, location, size=5)
        )


def test_gradients():
    """Finite differences for the soft crop, nothing at all for the hard one."""
    levels = glimpses.pyramid(jnp.asarray(RNG.random((16, 16)), jnp.float32), size=5, num_scales=2)
    total = lambda cut: lambda location: jnp.sum(jnp.sin(cut(levels, location, size=5)))
    location = jnp.array([0.13, -0.28])
    check_grads(total(glimpses.bilinear_glimpse), (location,), order=1, eps=1e-3, atol=0.02, rtol=0.02)
    assert np.all(jax.grad(total(glimpses.hard_glimpse))(location) == 0)
    of_image = jax.grad(lambda image: jnp.sum(glimpses.hard_glimpse(glimpses.pyramid(image, size=5), location, size=5)))
    assert np.sum(of_image(jnp.zeros((16, 16)))) == 25


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: glimpses.pyramid(jnp.zeros(5), size=2), r"image must be floating-point, \[H, W\]"),
        (lambda: glimpses.pyramid(jnp.zeros((5, 5), jnp.uint8), size=2), "image must be floating-point"),
        (lambda: glimpses.pyramid("x", size=2), "image must be floating-point"),
        (
            lambda: glimpses.pyramid(jnp.zeros((5, 9)), size=6),
            r"size must be at most the image's sides \(5, 9\), got 6",
        ),
        (lambda: glimpses.pyramid(jnp.zeros((5, 5)), size=0), "size must be at least 1"),
        (lambda: glimpses.pyramid(jnp.zeros((5, 5)), size=2, num_scales=0), "num_scales must be at least 1"),
        (lambda: glimpses.hard_glimpse(glimpses.pyramid(jnp.zeros((5, 5)), size=2), jnp.zeros(3), size=2), r"\(2,\)"),
        (lambda: glimpses.hard_glimpse(glimpses.pyramid(jnp.zeros((5, 5)), size=2), (0, 0), size=2), "location"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
