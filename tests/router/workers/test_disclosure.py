"""router/workers/disclosure.py: a worker has no secret that it does not need."""

import pickle

from router.config.compare import compare
from router.workers.disclosure import for_worker
from tests.router.config.support import config
from tests.support.certs import CA

AUTHORITY = CA("disclosure tests")
SERVER = AUTHORITY.issue_server("router.example")


def test_a_worker_is_not_told_what_only_the_supervisor_needs() -> None:
    """Credentials of NATS, the password of the route table, the keys of the operator's ports; the rest is whole."""
    pair = {"cert_chain": SERVER.chain_pem, "private_key": SERVER.key_pem}
    whole = config(
        {
            "nats": {"hosts": [{"hostname": "nats.example"}], "user": "u", "pass": "hush", "token": "hush", **pair},
            "status": {"pass": "hush", "tls": {"certificate": SERVER.chain_pem, "key": SERVER.key_pem}},
            "prometheus": {
                "port": 9100, "cert_path": SERVER.chain_pem, "key_path": SERVER.key_pem, "ca_path": AUTHORITY.pem,
                "meters": {"gorouter_time_histogram_buckets": [1, 2]},
            },
            "route_services_secret": "a robust passphrase",
            "workers": 2,
        }
    )  # fmt: skip
    told = for_worker(whole)
    assert {difference.path for difference in compare(whole, told)} == {
        "nats.cert_chain", "nats.private_key", "nats.hosts[nats.example:4222]", "nats.hosts[localhost:4222]", "nats.user",
        "nats.pass", "nats.token", "status.pass", "status.tls.certificate", "status.tls.key", "prometheus.cert_path",
        "prometheus.key_path", "prometheus.ca_path",
    }  # fmt: skip
    sent = pickle.dumps(told)
    assert (b"hush" in pickle.dumps(whole), b"hush" in sent) == (True, False)
    assert (SERVER.key_pem.encode() in pickle.dumps(whole), SERVER.key_pem.encode() in sent) == (True, False)
    assert pickle.loads(sent) == told
    assert told.prometheus.meters == whole.prometheus.meters
