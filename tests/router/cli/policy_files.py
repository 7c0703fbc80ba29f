"""Files as a developer has them: a configuration with one mTLS domain, a manifest, people, expectations."""

import textwrap
from pathlib import Path

from tests.support.certs import CA

DOMAIN = "apps.mtls.internal"

MANIFEST = f"""\
applications:
- name: backend
  routes:
  - route: api.{DOMAIN}
    options: {{mtls_allowed_apps: "front-guid"}}
  - route: free.{DOMAIN}/v1
    options: {{mtls_allow_any: true}}
"""

CALLERS = """\
callers:
  front: {app: front-guid, space: space-1, org: org-1}
  batch: {app: batch-guid, space: space-2, org: org-2}
  partner: {certificate: partner.pem}
  nobody: {}
"""

EXPECTATIONS = f"""\
config: router.yml
manifests: [manifest.yml]
{CALLERS}
cases:
- name: the front end may read
  caller: front
  host: api.{DOMAIN}
  expect: allow
  rule: route:mtls_allowed_apps
- {{name: others may not, caller: batch, host: api.{DOMAIN}, expect: deny, status: 403}}
- {{name: nor may strangers, caller: partner, host: api.{DOMAIN}, expect: deny, status: alert}}
- {{name: whoever has a certificate may have this, caller: batch, host: free.{DOMAIN}, path: /v1/x, expect: allow}}
"""


def config(ca: CA, *orgs: str, pattern: str = f"*.{DOMAIN}", **status: object) -> str:
    """A configuration whose one domain demands policies, bounded by these orgs if there are any."""
    bound = f", config: {{orgs: [{', '.join(orgs)}]}}" if orgs else ""
    return "".join(
        [
            "trusted_proxies: []\n",
            f"status: {{{', '.join(f'{key}: {value}' for key, value in status.items())}}}\n" if status else "",
            f"mtls_domains:\n- domain: '{pattern}'\n  ca_certs: |\n{textwrap.indent(ca.pem, '    ')}",
            f"  xfcc: {{identity_extractor: cf_ou}}\n  authorization: {{mode: cf_identity{bound}}}\n",
        ]
    )


def write(folder: Path, ca: CA, partner: CA) -> Path:
    """Write them all into `folder`; the file of expectations."""
    (folder / "router.yml").write_text(config(ca))
    (folder / "manifest.yml").write_text(MANIFEST)
    (folder / "callers.yml").write_text(CALLERS)
    (folder / "partner.pem").write_text(partner.issue_instance("front-guid", "space-1", "org-1").chain_pem)
    file = folder / "expectations.yml"
    file.write_text(EXPECTATIONS)
    return file
