"""router/observe/access_line.py: GoRouter's line byte for byte, and the JSON form."""

import json
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.observe.access_line import EXTRA_FIELDS, MAX_LINE, AccessLogOptions, Renderer
from router.observe.access_record import AccessRecord, CallerNames

SHOW_ALL = AccessLogOptions(redact_query_params="none")


def full_record() -> AccessRecord:
    """An exchange with every GoRouter field set."""
    record = AccessRecord(946_684_800.0)
    record.host, record.method, record.uri, record.proto = (
        b"example.com:80",
        b"GET",
        b"/request?a=b",
        b"HTTP/1.1",
    )
    record.status, record.bytes_in, record.bytes_out = 200, 30, 23
    record.referer, record.user_agent = b"https://ref.example/x?token=1", b"agent/1 (x)"
    record.remote_addr, record.backend_addr = "10.0.0.1:5555", "1.2.3.4:1234"
    record.x_forwarded_for, record.x_forwarded_proto = b"1.1.1.1, 2.2.2.2", b"https"
    record.vcap_request_id = b"abc-123-xyz-pdq"
    record.response_time, record.app_time = 60.0, 59.5
    record.app_id, record.app_index, record.instance_id = "app-guid", "3", "instance-guid"
    return record


def line(record: AccessRecord, options: AccessLogOptions = SHOW_ALL) -> str:
    """The rendered line."""
    return Renderer(options).render_line(record).decode()


def test_a_full_record_is_gorouters_line() -> None:
    """R54: order, quoting and precision as GoRouter writes them, byte for byte."""
    assert line(full_record()) == (
        'example.com:80 - [2000-01-01T00:00:00.000000000Z] "GET /request?a=b HTTP/1.1" 200 30 23 '
        '"https://ref.example/x?token=1" "agent/1 (x)" "10.0.0.1:5555" "1.2.3.4:1234" '
        'x_forwarded_for:"1.1.1.1, 2.2.2.2" x_forwarded_proto:"https" vcap_request_id:"abc-123-xyz-pdq" '
        'response_time:60.000000 gorouter_time:0.500000 app_id:"app-guid" app_index:"3" '
        'instance_id:"instance-guid" x_cf_routererror:"-"'
    )


def test_what_is_missing_is_a_dash() -> None:
    """Every absent value is `"-"`, the status too; byte counts are 0."""
    record = AccessRecord(0.0)
    record.host, record.method, record.uri, record.proto = b"h", b"GET", b"/", b"HTTP/1.1"
    assert line(record) == (
        'h - [1970-01-01T00:00:00.000000000Z] "GET / HTTP/1.1" "-" 0 0 "-" "-" "-" "-" x_forwarded_for:"-" '
        'x_forwarded_proto:"-" vcap_request_id:"-" response_time:"-" gorouter_time:"-" app_id:"-" '
        'app_index:"-" '
        'instance_id:"-" x_cf_routererror:"-"'
    )


def test_extra_headers_follow_in_lower_snake_case() -> None:
    """`extra_headers_to_log`, in its order, at the end of the line."""
    record = full_record()
    record.extra_headers = (b"no-cache", b'gzip, "x"', b"")
    options = AccessLogOptions(extra_headers_to_log=("Cache-Control", "Accept-Encoding", "Doesnt-Exist"))
    expected = 'x_cf_routererror:"-" cache_control:"no-cache" accept_encoding:"gzip, \\"x\\"" doesnt_exist:"-"'
    assert line(record, options).endswith(expected)


def test_extra_fields_stand_before_the_router_error_in_the_order_asked_for() -> None:
    """Each once, unknown names left out."""
    record = full_record()
    record.backend_time, record.failed_attempts, record.tls_sni = 1.25, 2, "a.b"
    record.mtls_rule = "route:mtls_allowed_apps"
    names = ("tls_sni", "backend_time", "nonsense", "tls_sni", "failed_attempts", "route_policy", "dial_time")
    shown = line(record, AccessLogOptions(extra_access_log_fields=names))
    assert (
        'instance_id:"instance-guid" tls_sni:"a.b" backend_time:1.250000 failed_attempts:2 '
        'route_policy:"route:mtls_allowed_apps" dial_time:"-" x_cf_routererror:"-"'
    ) in shown


def test_a_caller_is_shown_with_its_names_escaped_and_bounded() -> None:
    """In GoRouter's line where asked for, in JSON always; a name can break neither."""
    record = full_record()
    record.caller_cf_app, record.caller_names = "g", CallerNames('a "b"\\', "caf\u00e9", None)
    names = ("caller_cf_app", "caller_cf_app_name", "caller_cf_space_name", "caller_cf_org_name")
    shown = Renderer(AccessLogOptions(extra_access_log_fields=names)).render_line(record)
    assert b'caller_cf_app:"g" caller_cf_app_name:"a \\"b\\"\\\\" ' in shown
    assert b'caller_cf_org_name:"-" ' in shown
    assert b'caller_cf_space_name:"caf\xc3\xa9" ' in shown
    fields = json.loads(Renderer(AccessLogOptions(format="json")).render_json(record))
    assert [fields[name] for name in names[1:]] == ['a "b"\\', "caf\u00e9", None]


def test_attempt_details_come_first_and_once() -> None:
    """`logging.enable_attempts_details` is GoRouter's older name for six of the extra fields."""
    options = AccessLogOptions(enable_attempts_details=True, extra_access_log_fields=("dial_time", "local_address"))
    assert (
        'failed_attempts:0 failed_attempts_time:"-" dns_time:"-" dial_time:"-" tls_time:"-" backend_time:"-" '
        'local_address:"-" x_cf_routererror'
    ) in line(full_record(), options)


@pytest.mark.parametrize("name", sorted(EXTRA_FIELDS))
def test_every_extra_field_renders_for_an_empty_record(name: str) -> None:
    """No extra field needs another to be set."""
    assert f" {name}:" in line(AccessRecord(0.0), AccessLogOptions(extra_access_log_fields=(name,)))


@pytest.mark.parametrize(
    ("mode", "uri", "referer"),
    [
        ("none", "/request?a=b", "https://ref.example/x?token=1"),
        ("all", "/request", "https://ref.example/x"),
        (
            "hash",
            "/request?hash=ccff2fee4b15e0b46f79f86ce5d1de59163bb483",
            "https://ref.example/x?hash=6df3ed139c41f10e424550cd984b40adb878c180",
        ),
    ],
)
def test_queries_are_hidden_as_configured(mode: Literal["none", "all", "hash"], uri: str, referer: str) -> None:
    """R55, K44: all of the query, or its SHA-1, in the URI and in the Referer."""
    shown = line(full_record(), AccessLogOptions(redact_query_params=mode))
    assert f'"GET {uri} HTTP/1.1" 200 30 23 "{referer}"' in shown


def test_without_a_choice_no_query_is_logged() -> None:
    """R55: redacted is the default, for every method."""
    record = full_record()
    record.method = b"POST"
    assert "?" not in line(record, AccessLogOptions())


def test_client_addresses_can_be_left_out() -> None:
    """`disable_log_source_ip` and `disable_log_forwarded_for`."""
    options = AccessLogOptions(disable_log_source_ip=True, disable_log_forwarded_for=True)
    shown = line(full_record(), options)
    assert '"agent/1 (x)" "-" "1.2.3.4:1234" x_forwarded_for:"-" x_forwarded_proto' in shown


def test_hostile_text_stays_in_its_field() -> None:
    """Attack 24: no line split, no second field, whatever a client or a registration says."""
    record = full_record()
    record.host = b'evil x_cf_routererror:"-"\nnext'
    record.user_agent = b'" 500\r\nforged - [\xff'
    record.app_id = 'a"\nb'
    shown = line(record)
    assert len(shown.splitlines()) == 1
    assert shown.startswith('evil\\x20x_cf_routererror:\\"-\\"\\nnext - [')
    assert '"\\" 500\\r\\nforged - [\\xff"' in shown
    assert 'app_id:"a\\"\\nb"' in shown


def test_an_ordinary_line_is_not_cut() -> None:
    """GoRouter cuts only what would not fit a datagram."""
    record = full_record()
    record.user_agent = b"a" * 5000
    assert "a" * 5000 in line(record)


def test_a_huge_line_is_cut_as_gorouter_cuts() -> None:
    """Long values are halved until they fit, and marked."""
    record = full_record()
    record.uri, record.user_agent = b"/" + b"u" * 70_000, b"a" * 1500
    shown = line(record)
    assert len(shown) < MAX_LINE
    assert "...REQUEST-URI-TOO-LONG-TO-LOG--TRUNCATED HTTP/1.1" in shown
    assert '"' + "a" * 750 + '...USER-AGENT-TOO-LONG-TO-LOG--TRUNCATED"' in shown


def test_too_many_extra_headers_are_cut_too() -> None:
    """Their sum is bounded once the line is too long."""
    record = full_record()
    record.extra_headers = (b"a" * 40_000, b"b" * 40_000)
    shown = line(record, AccessLogOptions(extra_headers_to_log=("A", "B")))
    assert shown.endswith('x_cf_routererror:"-" ...EXTRA-REQUEST-HEADERS-TOO-LONG-TO-LOG--TRUNCATED')


def test_many_different_addresses_do_not_grow_the_cache() -> None:
    """Texts are kept for speed, a bounded number of them."""
    renderer = Renderer(SHOW_ALL)
    record = full_record()
    for port in range(5000):
        record.remote_addr = f"10.0.0.1:{port}"
        assert f'"10.0.0.1:{port}"'.encode() in renderer.render_line(record)


@given(st.binary(max_size=60), st.binary(max_size=60), st.text(max_size=30), st.binary(max_size=60))
def test_any_record_is_one_line_in_both_forms(host: bytes, uri: bytes, name: str, header: bytes) -> None:
    """Property: one line, valid UTF-8; the JSON form parses."""
    record = full_record()
    record.host, record.uri, record.app_id, record.router_error, record.extra_headers = (
        host,
        uri,
        name,
        name,
        (header,),
    )
    renderer = Renderer(AccessLogOptions(extra_headers_to_log=("X-Any",)))
    assert len(renderer.render_line(record).decode().splitlines()) == 1
    assert b"\n" not in renderer.render_json(record)
    assert "X-Any".lower().replace("-", "_") in json.loads(renderer.render_json(record))["headers"]


def test_the_json_form_has_all_fields() -> None:
    """R54: structured, with identity, decision, ids and generation; null where there is none."""
    record = full_record()
    record.tls_sni, record.mtls_auth, record.caller_cf_app, record.generation = "a.b", "allowed", "guid", 7
    fields = json.loads(Renderer(AccessLogOptions(format="json")).render(record))
    assert tuple(fields[name] for name in ("tls_sni", "mtls_auth", "caller_cf_app", "generation")) == (
        "a.b",
        "allowed",
        "guid",
        7,
    )
    assert tuple(fields[name] for name in ("uri", "status", "response_time", "gorouter_time")) == (
        "/request",
        200,
        60.0,
        0.5,
    )
    assert fields["mtls_denied_reason"] is None
    assert fields["backend_time"] is None


def test_the_json_form_can_leave_addresses_out() -> None:
    """The same switches as for the line."""
    options = AccessLogOptions(disable_log_source_ip=True, disable_log_forwarded_for=True)
    fields = json.loads(Renderer(options).render_json(full_record()))
    assert (fields["remote_addr"], fields["x_forwarded_for"]) == (None, None)
