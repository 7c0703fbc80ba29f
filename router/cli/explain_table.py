"""An explanation as text for people: the verdict first, then what each layer said, then what would change the answer.

Promises: made from the JSON of docs/explain.md alone, so that a running router's answer and one from files read alike; every
foreign word is printable and bounded; a name never hides its GUID. A value that has not that shape is a ValueError. Refuses to
know what the answer means.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from registry.problems import printable
from router.cli.output import paint

Label = Callable[[object], str]

_MAX: Final = 400
_WIDTH: Final = 12
_KINDS: Final = ("app", "space", "org")
_WARNED: Final = {"would_deny": "report_only alone lets it pass", "not_enforced": "the route's options are not enforced"}


def as_text(value: Mapping[str, Any]) -> str:
    """The whole answer. Raises ValueError for what is no explanation."""
    try:
        label = _labels(value["names"])
        parts = [_verdict(value, label), _facts(value, label), _trail(value, label), _remedy(value, label)]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError("the answer is no explanation; is it a router of this version?") from error
    return "\n\n".join(part for part in parts if part)


def _labels(names: Mapping[str, str]) -> Label:
    """Text made safe, with `name (guid)` for each GUID that has a name."""
    known = {guid: f"{printable(name, 80)} ({guid})" for guid, name in names.items()}
    whole = "|".join(re.escape(guid) for guid in sorted(known, key=len, reverse=True))
    pattern = re.compile(rf"(?<![A-Za-z0-9_-])(?:{whole})(?![A-Za-z0-9_-])") if known else None

    def label(text: object) -> str:
        safe = printable(str(text), _MAX)
        return safe if pattern is None else pattern.sub(lambda found: known[found[0]], safe)

    return label


def _verdict(value: Mapping[str, Any], label: Label) -> str:
    question, status = value["question"], value["status"]
    url = label(f"{'https' if question['tls'] else 'http'}://{question['host']}{question['path']}")
    if value["allowed"]:
        warned = _WARNED.get(value["decision"]["auth"])
        word, but = paint("ALLOWED", "yellow" if warned else "green"), f", but {warned}" if warned else ""
    else:
        word, but = paint("DENIED" if status in (403, 421) else "REFUSED", "red"), ""
    how = "with a TLS alert" if status == "alert" else "" if value["allowed"] else f"with {label(status)}"
    by = f"by the {label(value['layer'])} layer" + (f", rule {label(value['rule'])}" if value["rule"] else "")
    return f"{' '.join(part for part in (word, how, by) if part)}{but}: {url}\n{label(value['sentence'])}"


def _facts(value: Mapping[str, Any], label: Label) -> str:
    lines = [
        ("caller", _caller(value, label)),
        ("host", _host(value, label)),
        ("certificate", _demand(value["client_certificate"], label)),
        ("handshake", _handshake(value["handshake"], label)),
        ("route", _route(value["route"], label)),
        *(("policy", _policy(part, label)) for part in (value["route"] or {"policy": []})["policy"]),
        ("table", _row(value, label)),
    ]
    return "\n".join(f"{name:<{_WIDTH}}{text}" for name, text in lines)


def _caller(value: Mapping[str, Any], label: Label) -> str:
    who, kind = value["identity"], value["question"]["caller"]
    if who["error"]:
        said = f"nobody: {label(who['error']['detail'])}"
    elif who["app"] is None:
        return "shows no certificate"
    else:
        said = ", ".join(f"{name} {label(who[name]) if who[name] else '-'}" for name in _KINDS)
    if who["ous"] is not None:
        said += f"; read from the certificate's OUs: {', '.join(printable(str(ou), 100) for ou in who['ous']) or 'none'}"
    elif kind == "certificate":
        said += "; read from the certificate here, which was not sent: the router did not verify its chain"
    else:
        said += "; as given, no certificate was verified"
    return said if who["read"] else f"{said}; the host's domain reads no identity"


def _host(value: Mapping[str, Any], label: Label) -> str:
    domain, host = value["domain"], label(value["question"]["host"])
    bare = "".join(
        f"; it is the bare suffix of {label(pattern)}, which does not claim it" for pattern in domain["bare_suffix_of"]
    )
    if domain["pattern"] is None:
        return f"{host} is in no mTLS domain{bare}"
    why = "by its exact name" if domain["how"] == "exact" else "by the longest suffix"
    less = "".join(f", before {label(pattern)}" for pattern in domain["less_specific"])
    kind = f"{label(domain['dialect'])}, authorization.mode {label(domain['mode'])}"
    kind += ", report_only" if domain["report_only"] else ""
    return f"{host} is claimed by {label(domain['pattern'])} {why}{less} ({kind}){_lists(domain, label)}{bare}"


def _lists(domain: Mapping[str, Any], label: Label) -> str:
    return "".join(
        f"; only {name}: {', '.join(map(label, domain[name])) or 'none'}"
        for name in ("orgs", "spaces")
        if domain[name] is not None
    )


def _demand(demand: Mapping[str, Any], label: Label) -> str:
    if demand["mode"] == "none":
        return "none is asked for"
    anchors = [f"{label(one['subject'])} (until {label(one['not_after'])[:10]})" for one in demand["authorities"]]
    anchors += ["the system's authorities"] if demand["system_roots"] else []
    insists = "required" if demand["mode"] == "require" else "asked for, not required"
    crls = demand["crls"]
    lists = (
        "no revocation lists"
        if crls is None
        else "revocation lists of " + (", ".join(label(one["issuer"]) for one in crls) or "nobody")
    )
    without = demand["alert_without"]
    alert = f"; without one: alert {label(without['number'])} {label(without['name'])}" if without else ""
    return f"{insists}, of {', '.join(anchors) or 'nobody'}; {lists}{alert}"


def _handshake(handshake: Mapping[str, Any] | None, label: Label) -> str:
    if handshake is None:
        return "none: plain HTTP"
    name = "without a server name" if handshake["sni"] is None else f"for {label(handshake['sni'])}"
    what = "enforces no domain" if handshake["domain"] is None else f"enforces {label(handshake['domain'])}"
    alert = handshake["alert"]
    if alert is not None:
        seen = f"alert {label(alert['number'])} {label(alert['name'])}"
        return f"{name}, {what}; the client sees {seen} ({label(handshake['result'])})"
    judged = {None: "; that the certificate is good is taken for granted", True: "; it ends well", False: ""}
    return f"{name}, {what}{judged[handshake['verified']]}"


def _route(route: Mapping[str, Any] | None, label: Label) -> str:
    if route is None:
        return "none"
    total = route["endpoints"]
    reached = (
        f", {label(route['in_scope'])} of them in the caller's {' and '.join(map(label, route['scopes']))}"
        if route["scopes"]
        else ""
    )
    how = "of any host below its suffix" if route["how"] == "wildcard" else "of this very host"
    warned = "".join(f"; {label(warning)}" for warning in route["warnings"])
    return f"{label(route['key'])}, {how}, with {label(total)} instance{'' if total == 1 else 's'}{reached}{warned}"


def _policy(part: Mapping[str, Any], label: Label) -> str:
    said = [f"scope {label(part['scope'])}"] if part["scope"] else []
    said += [f"{kind}s {', '.join(map(label, part[f'{kind}s']))}" for kind in _KINDS if part[f"{kind}s"]]
    said += ["anybody"] if part["any"] else []
    nobody = (
        ["nobody"]
        if part["options"] in ("mtls", "route_policy") and not any(part[name] for name in ("any", "apps", "spaces", "orgs"))
        else []
    )
    return f"{label(part['options'])} -> {label(part['outcome'])}" + "".join(f"; {each}" for each in (*said, *nobody))


def _row(value: Mapping[str, Any], label: Label) -> str:
    outcomes = value["table"]["outcomes"]
    return f"{label(value['table']['row'])}: " + ", ".join(
        f"{label(name)} {label(outcome)}" for name, outcome in outcomes.items()
    )


def _trail(value: Mapping[str, Any], label: Label) -> str:
    marks = value["trail"]
    layer, rule = (max(len(label(mark[key])) for mark in marks) for key in ("layer", "rule"))
    lines = [
        f"  {paint('+', 'green') if mark['passed'] else paint('x', 'red')} "
        f"{label(mark['layer']):<{layer}}  {label(mark['rule']):<{rule}}  {label(mark['detail'])}"
        for mark in marks
    ]
    return "\n".join([paint("What each layer said", "bold"), *lines])


def _remedy(value: Mapping[str, Any], label: Label) -> str:
    steps = list(_steps(value["remedy"], label))
    return "\n".join([paint("What would change the answer", "bold"), *steps]) if steps else ""


def _steps(steps: list[Mapping[str, Any]], label: Label) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        yield f"  {number}. the {label(step['who'])}: {label(step['change'])}\n     ({label(step['where'])})"
