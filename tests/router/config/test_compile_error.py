"""router/config/compile_error.py: what could not be built."""

from router.config.compile_error import CompileError


def test_it_names_the_key_and_the_reason() -> None:
    """Path first: that is what an operator looks for."""
    error = CompileError("tls_pem[0]", "the key belongs to another certificate")
    assert str(error) == "tls_pem[0]: the key belongs to another certificate"
    assert (error.path, error.why) == ("tls_pem[0]", "the key belongs to another certificate")
