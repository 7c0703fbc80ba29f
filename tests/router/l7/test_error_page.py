"""The operator's page: what becomes of its template, and what can never come out."""

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from router.config.template import MAX_ACTIONS, Template, read_template
from router.faults import Fault
from router.l7.error_page import MAX_PAGE, ErrorPage
from router.l7.refusal import Refusal, failure, healthcheck, refusal

ALL = "<p title='{{ .Status }}'>{{.Status}} {{- .StatusText -}} : {{.Message}}</p>"


def page(text: str) -> ErrorPage:
    found = read_template(text)
    assert isinstance(found, Template), found
    return ErrorPage(found)


def dressed(text: str, answer: Refusal, *, is_head: bool = False) -> Refusal:
    return page(text).dress(answer, answer.fields, is_head=is_head)


def test_the_fields_of_gorouter_are_filled_in_and_blanks_are_trimmed() -> None:
    """Contract d: Status, StatusText and Message, with Go's trim markers."""
    answer = dressed(ALL, refusal("unknown_route", host="a.example"))
    assert answer.body == b"<p title='404'>404Not Found: Requested route (&#x27;a.example&#x27;) does not exist.</p>"
    fields = dict(answer.fields)
    assert fields[b"Content-Type"] == b"text/html; charset=utf-8"
    assert fields[b"Content-Length"] == str(len(answer.body)).encode()
    assert fields[b"X-Content-Type-Options"] == b"nosniff"
    assert fields[b"Cache-Control"] == b"no-cache, no-store"
    assert len(fields) == len(answer.fields)


def test_the_fields_of_the_response_can_be_shown() -> None:
    """Contract d: Header is the response's; names in any case, the first value, nothing where there is none."""
    text = '{{.Header.Get "x-cf-routererror"}}|{{ .Header.Get `X-None` }}|{{.Header}}'
    body = dressed(text, refusal("empty_host")).body.decode()
    first, none, whole = body.split("|")
    assert (first, none) == ("empty_host", "")
    assert whole.startswith("map[Cache-Control:[public,max-age=2] Content-Length:[")
    assert "X-Cf-Routererror:[empty_host]" in whole


def test_a_failed_round_trip_has_the_text_behind_the_status_as_its_message() -> None:
    assert dressed("{{.Message}}", failure(Fault("dial_failed"))).body == b"Registered endpoint failed to handle the request."
    assert dressed("{{.StatusText}}.{{.Message}}", failure(Fault("tls_untrusted"))).body == b"Invalid SSL Certificate."


def test_a_denial_says_no_more_than_without_the_page() -> None:
    """The reason of a 403 or 421 is not among what a page can show."""
    everything = "{{.Status}} {{.StatusText}} {{.Message}} {{.Header}}"
    body = dressed(everything, refusal("mtls_authorization_denied")).body.decode()
    assert body.startswith("403 Forbidden Forbidden map[")
    assert dressed("[{{.Message}}]", refusal("mtls_domain_mismatch")).body == b"[]"


def test_a_head_request_gets_the_length_and_no_page() -> None:
    answer = dressed("<p>{{.Status}}</p>", refusal("unknown_route", is_head=True), is_head=True)
    assert (answer.body, dict(answer.fields)[b"Content-Length"]) == (b"", b"10")


def test_a_load_balancers_probe_gets_no_page() -> None:
    """A 503 while draining is an answer, not an error."""
    probe = healthcheck([(b"user-agent", b"HTTP-Monitor/1.1")], b"HTTP-Monitor/1.1", healthy=False)
    assert probe is not None
    assert dressed("<p>{{.Status}}</p>", probe) == probe


def test_a_page_that_grows_too_large_stays_plain_text() -> None:
    """Closed by default: what cannot be shown in the bound is not shown."""
    large = "x" * 60_000 + "{{.Header}}" * MAX_ACTIONS
    answer = refusal("unknown_route", host="a.example")
    padded = answer._replace(fields=[*answer.fields, (b"X-Long", b"y" * 8192)])
    assert page(large).dress(padded, padded.fields, is_head=False) == padded
    assert len(page(large).dress(answer, answer.fields, is_head=False).body) < MAX_PAGE


def test_comments_say_nothing() -> None:
    assert dressed("a{{/* {{.Nothing}} */}}b<!-- {{.Status}} -->", refusal("unknown_route")).body == b"ab<!-- 404 -->"


@given(st.binary(max_size=200))
def test_no_value_brings_markup(value: bytes) -> None:
    """Whatever a field or a host holds, the page has the operator's tags alone."""
    answer = refusal("unknown_route", host=value.decode("latin-1"))
    said = [*answer.fields, (b"X-Any", value)]
    body = page('<i>{{.Message}}{{.Header}}{{.Header.Get "X-Any"}}</i>').dress(answer, said, is_head=False).body.decode()
    assert re.findall(r"[<>\"']", body) == ["<", ">", "<", ">"]
    assert html.escape(value.decode("latin-1")) in body
