import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Runs a test in both precisions; inside, jax makes arrays of that dtype."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def exact_products():
    """Matrix products at full precision on every device, where two ways to compute one network are compared."""
    with jax.default_matmul_precision("highest"):
        yield
