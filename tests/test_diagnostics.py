import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxelbo

FAMILY = jaxelbo.families.mean_field({"rate": 0.0, "other": jnp.zeros(2)}, initial_scale=1.0)
PARAMS, KEY = FAMILY.init(jax.random.key(0)), jax.random.key(1)


def check(log_joint, num_samples=20):
    jaxelbo.check_log_joint(PARAMS, KEY, log_joint, FAMILY, num_samples=num_samples)


def test_a_sound_log_joint_passes():
    assert check(lambda z: -(z["rate"] ** 2) - jnp.sum(z["other"] ** 2)) is None


def test_names_sample_and_leaf():
    rates = np.asarray(jaxelbo.draws(PARAMS, KEY, FAMILY, num_samples=20)["rate"])
    first = int(np.argmax(rates < 0))
    count = int(np.sum(rates < 0))
    with pytest.raises(
        ValueError,
        match=rf"nan at sample {first}, but not with another draw's latent\['rate'\]; {count} of 20 draws are at fault",
    ):
        check(lambda z: jnp.log(z["rate"]) + jnp.sum(z["other"]))


def test_a_gradient_alone():
    """Finite value, gradient 0 / 0 at a kink that only the second leaf has."""
    with pytest.raises(
        ValueError,
        match=r"log_joint is -?\d.* at sample 0, as at every draw, its gradient not finite in latent\['other'\]",
    ):
        check(lambda z: -(z["rate"] ** 2) + jnp.sum(jnp.sqrt(0 * z["other"])))


def test_a_value_alone():
    with pytest.raises(ValueError, match="log_joint is -inf at sample 0, as at every draw; 20 of 20"):
        check(lambda z: jnp.where(z["rate"] < 100, -jnp.inf, 0.0))


def test_bad_input():
    with pytest.raises(ValueError, match="reads values; call it outside jit"):
        jax.jit(lambda key: jaxelbo.check_log_joint(PARAMS, key, lambda z: 0.0, FAMILY, num_samples=2))(KEY)
    with pytest.raises(ValueError, match="closes over no traced value"):
        jax.jit(lambda x: check(lambda z: x * z["rate"]))(1.0)
    with pytest.raises(ValueError, match="log_joint must return a scalar"):
        check(lambda z: z["other"])
    with pytest.raises(TypeError, match="num_samples must be an integer"):
        check(lambda z: 0.0, num_samples=None)
