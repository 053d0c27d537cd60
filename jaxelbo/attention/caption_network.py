"""A network that tells an image word by word and looks at one place of it before each word.

Attention. A grid of L overlapping patches gives annotation vectors a_i; before each of T words the state h of a
recurrent decoder gives a policy p(s_t = i|s_<t, a) over the cells, and the word is read from the context z_t, the
annotation of the cell that was drawn. How the policy is used is an `Attend` of `cell_choices`. A proposal q(s|y, a) is
the policy with a correction that sees the word that comes next. For one image; the caller vmaps. The objectives are in
`show_attend_tell`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxelbo import checks
from jaxelbo.attention import layers
from jaxelbo.attention.cell_choices import Attend, drawn_cell
from jaxelbo.attention.tellings import Telling
from jaxelbo.types import Key, Params


class Shape(NamedTuple):
    """Sizes of the system, static.

    Attributes:
      height: of the image in pixels.
      width: of the image in pixels.
      patch_size: side of the patch that a cell sees, in pixels.
      stride: pixels from a cell to the next, down and across; cells overlap where it is less than the patch.
      part_size: side of the smaller squares, a stride apart, that a patch is made of, in pixels.
      num_channels: features of a part.
      num_features: entries of an annotation vector that say what is seen.
      place_size: entries that say where; learned.
      num_units: units of the decoder, of the policy's layer, and entries of a word's vector.
      num_words: size of the vocabulary with the end token, which is its last word.
    """

    height: int
    width: int
    patch_size: int = 28
    stride: int = 6
    part_size: int = 10
    num_channels: int = 16
    num_features: int = 128
    place_size: int = 16
    num_units: int = 64
    num_words: int = 11


def centres(shape: Shape) -> jax.Array:
    """Where the L cells are, ``[L, 2]``: down and across, in pixels from the top left corner.

    >>> centres(Shape(height=4, width=8, patch_size=4, stride=2, part_size=2))
    Array([[2., 2.],
           [2., 4.],
           [2., 6.]], dtype=float32)
    """
    down, across = _starts(shape)
    corners = jnp.stack(jnp.meshgrid(jnp.asarray(down), jnp.asarray(across), indexing="ij"), axis=-1).reshape(-1, 2)
    return corners + jnp.float32(shape.patch_size / 2)


def init(key: Key, shape: Shape) -> Params:
    """Parameters of all networks; policy and words start near uniform.

    Args:
      key: one random key.
      shape: sizes of the system.

    Returns:
      A pytree, float32; its ``"baseline"`` is for the rules that learn one, its ``"posterior"`` for `propose`.

    Raises:
      TypeError, ValueError: naming what does not fit, such as a patch larger than the image.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax
    >>> sorted(init(jax.random.key(0), Shape(height=40, width=112)))
    ['annotation', 'baseline', 'decoder', 'places', 'policy', 'posterior', 'start', 'vocabulary', 'words']
    """
    down, across = _starts(shape)
    keys = iter(jax.random.split(key, 13))
    rectified = functools.partial(layers.dense_init, gain=2**0.5)
    features, units, words = shape.num_features, shape.num_units, shape.num_words
    annotation = features + shape.place_size
    return {
        "annotation": [
            rectified(next(keys), shape.part_size**2, shape.num_channels),
            rectified(next(keys), _parts_across(shape) ** 2 * shape.num_channels, features),
        ],
        "places": jax.random.normal(next(keys), (len(down) * len(across), shape.place_size), jnp.float32),
        "start": layers.dense_init(next(keys), annotation, 2 * units),
        "policy": {
            "cell": layers.dense_init(next(keys), annotation, units),
            "state": layers.dense_init(next(keys), units, units),
            "both": layers.dense_init(next(keys), units, 1, gain=0.1),
        },
        "vocabulary": 0.3 * jax.random.normal(next(keys), (words + 1, units), jnp.float32),
        "decoder": layers.lstm_init(next(keys), annotation + units, units),
        "words": [
            rectified(next(keys), annotation + 2 * units, features),
            layers.dense_init(next(keys), features, words, gain=0.1),
        ],
        "baseline": layers.dense_init(next(keys), units, 1, gain=0.1),
        "posterior": layers.dense_init(next(keys), units, units, gain=0.0),
    }


def tell(params: Params, key: Key, image: jax.Array, caption: jax.Array, *, shape: Shape, attend: Attend) -> Telling:
    """The decoder over a caption that is given: each word is told after the right words before it.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      attend: how the policy is used, such as `drawn_cell`.

    Returns:
      `Telling`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(height=40, width=112)
    >>> params, image, caption = init(jax.random.key(0), shape), jnp.zeros((40, 112)), jnp.array([3, 1, 10])
    >>> tell(params, jax.random.key(1), image, caption, shape=shape, attend=drawn_cell).weights.shape
    (3, 45)
    """
    check_caption(caption, shape.num_words)
    checks.check_callable(attend, "attend")
    return _run(params, key, image, jnp.asarray(caption), _as_given, attend, shape)


def propose(
    params: Params, key: Key, image: jax.Array, caption: jax.Array, *, shape: Shape, attend: Attend = drawn_cell
) -> Telling:
    """As `tell`, with cells of the proposal q(s|y, a): before each word attention sees which word it is.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      caption: ``[T]`` integers.
      shape: sizes of the system.
      attend: how the proposal is used.

    Returns:
      `Telling`, whose ``log_proposal`` is q's.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Deng, Kim, Chiu, Guo, Rush (2018), *Latent Alignment and Variational Attention*.

    >>> import jax, jax.numpy as jnp
    >>> shape = Shape(height=40, width=112)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((40, 112)), jnp.array([3, 1, 10])
    >>> told = propose(*arguments, shape=shape)
    >>> bool(jnp.all(told.log_proposal == told.log_policy))  # q starts as the policy
    True
    """
    check_caption(caption, shape.num_words)
    checks.check_callable(attend, "attend")

    def hint(word: jax.Array) -> jax.Array:
        return layers.dense(params["posterior"], params["vocabulary"][word])

    return _run(params, key, image, jnp.asarray(caption), _as_given, attend, shape, hint)


def read(params: Params, key: Key, image: jax.Array, *, shape: Shape, num_words: int, attend: Attend) -> Telling:
    """The decoder at test: each word is the likeliest after those that were read.

    Args:
      params: of `init`.
      key: one random key.
      image: ``[H, W]``, between 0 and 1.
      shape: sizes of the system.
      num_words: T, static; words after the first end token mean nothing.
      attend: how the policy is used, such as `likeliest_cell`.

    Returns:
      `Telling`.

    Raises:
      TypeError, ValueError: naming the argument.

    References:
      Xu, Ba, Kiros, Cho, Courville, Salakhudinov, Zemel, Bengio (2015), *Show, Attend and Tell*.

    >>> import jax, jax.numpy as jnp
    >>> from jaxelbo.attention.cell_choices import likeliest_cell
    >>> shape = Shape(height=40, width=112)
    >>> arguments = init(jax.random.key(0), shape), jax.random.key(1), jnp.zeros((40, 112))
    >>> read(*arguments, shape=shape, num_words=5, attend=likeliest_cell).words.shape
    (5,)
    """
    checks.check_callable(attend, "attend")
    none = jnp.zeros(checks.check_count(num_words, "num_words"), jnp.int32)
    return _run(params, key, image, none, lambda log_words, word: jnp.argmax(log_words), attend, shape)


def check_caption(caption: jax.Array, num_words: int) -> None:
    """Requires integers ``[T]``, words of the vocabulary where their values are known."""
    if getattr(caption, "ndim", None) != 1 or not jnp.issubdtype(caption.dtype, jnp.integer) or caption.size == 0:
        raise TypeError(f"caption [T] must be an array of integers, got {checks.describe(caption)}; vmap over data.")
    if not checks.is_traced(caption) and not 0 <= np.min(caption) <= np.max(caption) < num_words:
        raise ValueError(f"caption must hold words between 0 and {num_words - 1}, got {caption}.")


def _as_given(log_words: jax.Array, word: jax.Array) -> jax.Array:
    del log_words
    return word


def _run(
    params: Params,
    key: Key,
    image: jax.Array,
    given: jax.Array,
    say: Callable[[jax.Array, jax.Array], jax.Array],
    attend: Attend,
    shape: Shape,
    hint: Callable[[jax.Array], jax.Array] | None = None,
) -> Telling:
    """The decoder: ``say(log_words, given word)`` is the last word of the next step, ``hint(given word)`` q's."""
    checks.check_key(key)
    cells = _annotations(params, image, shape)
    policy = params["policy"]
    of_cells = layers.dense(policy["cell"], cells)

    def log_chances(energies: jax.Array) -> jax.Array:
        return jax.nn.log_softmax(layers.dense(policy["both"], jnp.tanh(energies))[:, 0])

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, Telling]:
        state, last = carry
        word, key = inputs
        energies = of_cells + layers.dense(policy["state"], state.hidden)[None]
        log_policy = log_chances(energies)
        log_proposal = log_policy if hint is None else log_chances(energies + hint(word)[None])
        weights = attend(key, log_proposal)
        seen = [weights @ cells, jax.nn.one_hot(last, shape.num_words + 1) @ params["vocabulary"]]
        after = layers.lstm(params["decoder"], state, jnp.concatenate(seen))
        mixed = jax.nn.relu(layers.dense(params["words"][0], jnp.concatenate([after.hidden, *seen])))
        log_words = jax.nn.log_softmax(layers.dense(params["words"][1], mixed))
        said = say(log_words, word).astype(last.dtype)
        return (after, said), Telling(said, log_words, log_policy, log_proposal, weights, state.hidden)

    hidden, cell = jnp.split(jnp.tanh(layers.dense(params["start"], jnp.mean(cells, axis=0))), 2)
    start = layers.LSTMState(hidden, cell), jnp.int32(shape.num_words)
    # Captions are short, and unrolled they cost little more than half as much on a CPU.
    return jax.lax.scan(step, start, (given, jax.random.split(key, len(given))), unroll=True)[1]


def _annotations(params: Params, image: jax.Array, shape: Shape) -> jax.Array:
    """What each cell sees, by features of its parts and then of all together, and where it is, ``[L, features + P]``.

    The place stands beside the features, not in their sum: a digit then looks the same wherever it is.
    """
    down, across = _starts(shape)
    checks.check_floating(image, "image", ("H", "W"))
    if image.shape != (shape.height, shape.width):
        raise ValueError(f"image must have shape {(shape.height, shape.width)}, got {image.shape}; vmap over images.")
    checks.check_unit_interval(image, "image")
    parts = _windows(image, shape.part_size, shape.stride)
    parts = jax.nn.relu(layers.dense(params["annotation"][0], parts.reshape(*parts.shape[:2], -1)))
    cells = _windows(parts, _parts_across(shape), 1)[: len(down), : len(across)]
    cells = layers.dense(params["annotation"][1], cells.reshape(len(down) * len(across), -1))
    return jnp.concatenate([jax.nn.relu(cells), params["places"]], axis=1)


def _windows(grid: jax.Array, size: int, stride: int) -> jax.Array:
    """All squares of a grid, ``[H, W, ...]`` -> ``[h, w, size, size, ...]``; slices are faster than convolutions."""
    height, width = ((side - size) // stride * stride + 1 for side in grid.shape[:2])
    rows = jnp.stack([grid[start : start + height : stride] for start in range(size)], axis=1)
    squares = jnp.stack([rows[:, :, start : start + width : stride] for start in range(size)], axis=3)
    return jnp.swapaxes(squares, 1, 2)


def _parts_across(shape: Shape) -> int:
    return (shape.patch_size - shape.part_size) // shape.stride + 1


def _starts(shape: Shape) -> tuple[range, range]:
    """First rows and first columns of the patches, in pixels."""
    if not isinstance(shape, Shape):
        raise TypeError(f"shape must be a caption_network.Shape, got {checks.describe(shape)}.")
    for name, value in shape._asdict().items():
        checks.check_count(value, f"shape.{name}")
    side = min(shape.height, shape.width)
    if shape.patch_size > side:
        raise ValueError(f"shape.patch_size must be at most {side}, the image's, got {shape.patch_size}.")
    if shape.part_size > shape.patch_size or (shape.patch_size - shape.part_size) % shape.stride:
        raise ValueError(
            f"shape.part_size must be the patch's {shape.patch_size} less a multiple of the stride {shape.stride}, got "
            f"{shape.part_size}."
        )
    down, across = (range(0, side - shape.patch_size + 1, shape.stride) for side in (shape.height, shape.width))
    return down, across
