"""One verdict a name, compiled from the operator's configuration."""

import pytest

from router.l7.header_policy import DROP, KEEP, header_policy


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        (b"accept", KEEP), (b"host", KEEP), (b"content-length", KEEP), (b"trailer", KEEP),
        (b"client-id", KEEP), (b"x_custom", KEEP), (b"authorization", KEEP), (b"x-forwarded", KEEP),
        (b"connection", DROP), (b"keep-alive", DROP), (b"transfer-encoding", DROP), (b"upgrade", DROP),
        (b"expect", DROP), (b"proxy", DROP), (b"proxy-connection", DROP), (b"proxy-authorization", DROP),
        (b"forwarded", DROP), (b"x-real-ip", DROP), (b"x-forwarded-port", DROP),
        (b"x-forwarded-prefix", DROP), (b"client-cert", DROP), (b"client-cert-chain", DROP),
        (b"x-ssl-client-cert", DROP),
        (b"x-ssl-client-s-dn", DROP), (b"x-client-cert", DROP), (b"ssl-client-verify", DROP),
        (b"ssl_client_verify", DROP), (b"x-forwarded-tls-client-cert", DROP), (b"x-cf-proxy-signature", DROP),
        (b"x-cf-forwarded-url", DROP), (b"x_cf_forwarded_url", DROP),
        (b"x_cf_proxy_metadata", DROP), (b"x-cf-applicationid", DROP), (b"x-cf-app-instance", DROP),
        (b"x-cf-process-instance", DROP), (b"x_forwarded_client_cert", DROP),
        (b"x-forwarded_client-cert", DROP), (b"x_forwarded-for", DROP),
        (b"x.forwarded.client.cert", DROP), (b"content_length", DROP),
        (b"transfer_encoding", DROP), (b"x_vcap_request_id", DROP), (b"x_real_ip", DROP),
    ],
)  # fmt: skip
def test_a_name_from_a_client_is_kept_or_dropped(name: bytes, verdict: int) -> None:
    """Attacks 35, 36 and 40: look-alikes, other routers' certificate headers and `Proxy` do not pass."""
    assert verdict == header_policy().request[name]


@pytest.mark.parametrize("enabled", [True, False])
def test_trace_fields_are_ours_only_where_they_are_switched_on(enabled: bool) -> None:
    """Decision 9: `tracing.enable_w3c: false` passes them through; the same holds for B3."""
    policy = header_policy(enable_w3c=enabled, enable_zipkin=enabled)
    assert {policy.request[name] for name in (b"traceparent", b"tracestate", b"b3", b"x-b3-sampled")} == {
        DROP if enabled else KEEP
    }


def test_the_operators_protected_names_have_look_alikes_too() -> None:
    """Decision 9: a protected name with `_` for `-` is stripped, also one of hop_by_hop_headers_to_filter."""
    policy = header_policy(hop_by_hop_headers_to_filter=["X-User-Id"])
    assert (policy.request[b"x-user-id"], policy.request[b"x_user_id"]) == (KEEP, DROP)


def test_the_memory_of_names_is_bounded() -> None:
    """Attack 52: a client that invents names makes the router forget, not grow."""
    policy = header_policy()
    for number in range(10_000):
        assert policy.request[b"x-%d" % number] == KEEP
    assert policy.request[b"y" * 5000] == KEEP
    assert len(policy.request) <= 4096
    assert policy.request[b"connection"] == DROP


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"trusted_proxies": ["10.0.0.0/33"]}, "trusted_proxies: '10.0.0.0/33' is no network"),
        ({"add_headers_if_not_present": [("X-A", "a\r\nb")]}, "the value of X-A"),
        ({"add_headers_if_not_present": [("X A", "a")]}, "http_rewrite: 'X A' is no field name"),
        ({"w3c_tenant_id": "a,b"}, "w3c_tenant_id: 'a,b' is none"),
        ({"remove_headers": [""]}, "http_rewrite: '' is no field name"),
        ({"hop_by_hop_headers_to_filter": ["Ä"]}, "hop_by_hop_headers_to_filter: 'Ä' is no field name"),
    ],
)
def test_a_configuration_that_cannot_be_is_named(keys: dict[str, object], said: str) -> None:
    """A bad value is an error with its key, its value and what was expected."""
    with pytest.raises(ValueError, match=r"expected|must be") as caught:
        header_policy(**keys)  # type: ignore[arg-type]
    assert said in str(caught.value)
