"""Validates RO-Crates without a network: `validate_crate.py FOLDER PROFILE…`.

The rules are those of roc-validator's profiles, unchanged. The two JSON-LD contexts that a crate names by their
addresses are answered from here: RO-Crate 1.1's from the package `rocrate`, and of the workflow-run terms the ones in
use. Any other address is an error, so that a crate cannot pass because something was not looked at.
"""

import importlib.resources
import json
import sys

import rdflib.plugins.parsers.jsonld as parser
import rdflib.plugins.shared.jsonld.context as context
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.utils import http

TERMS = "https://w3id.org/ro/terms/workflow-run"
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": json.loads(
        importlib.resources.files("rocrate").joinpath("data/ro-crate.jsonld").read_text()
    ),
    f"{TERMS}/context": {"@context": {"resourceUsage": f"{TERMS}#resourceUsage"}},
}


class Answer:
    """A response of a web server."""

    status_code = 200
    ok = True
    headers = {"Content-Type": "application/ld+json"}

    def __init__(self, url):
        if url not in CONTEXTS:
            raise RuntimeError(f"the test has no network and does not know {url}")
        self.url, self.body = url, CONTEXTS[url]
        self.text = json.dumps(self.body)
        self.content = self.text.encode()

    def json(self):
        return self.body

    def raise_for_status(self):
        pass


class Requester:
    """Answers what the validator asks the web for."""

    def get(self, url, **_):
        return Answer(str(url))

    head = get


def source_to_json(source, *rest, **named):
    """Rdflib's reader, for addresses."""
    if str(source) in CONTEXTS:
        return CONTEXTS[str(source)], None
    return original(source, *rest, **named)


original = context.source_to_json
context.source_to_json = parser.source_to_json = source_to_json
http.HttpRequester.__new__ = lambda *_, **__: Requester()

failed = False
for profile in sys.argv[2:]:
    settings = ValidationSettings(
        rocrate_uri=sys.argv[1],
        profile_identifier=profile,
        requirement_severity=Severity.REQUIRED,
        allow_requirement_check_override=True,
    )
    result = services.validate(settings)
    for issue in result.get_issues():
        failed = True
        print(f"{profile}: {issue.check.identifier}: {issue.message} ({issue.violatingEntity})")
    checks = len(result.executed_checks)
    print(f"{profile}: {checks} checks, {len(result.get_issues())} issues")
sys.exit(1 if failed else 0)
