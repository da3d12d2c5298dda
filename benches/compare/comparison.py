"""Everything that a comparison measures: the subjects, and the proxies that they need."""

from answers import check_answers
from peers import start_peers
from subjects import needed_subjects
from testbed import IDLE_CONNECTIONS, Testbed

# Room for the idle connections and for some others. The idle connections must stay open until the end.
CROWDED = f"""
    limits: {{ connections: {IDLE_CONNECTIONS + 300}, connectionsPerAddress: {IDLE_CONNECTIONS + 300} }}
    timeouts: {{ idleSeconds: 3600 }}
"""


class Comparison(Testbed):
    """A testbed with the proxies that the goals need."""

    def __init__(self, harness, programs, goals):
        super().__init__(harness, programs)
        self.goals, self.subjects = goals, needed_subjects(self, goals)
        needed = {subject.server for subject in self.subjects}
        start_peers(self, needed)
        tls = {"attls": "false", "x509": "true"}
        for name, settings in (("plain", {}), ("cargo", {"program": "cargo"}), ("audit", {"audit": "true"}),
                               ("tls", tls), ("crowded", {**tls, "extra": CROWDED})):
            if name in needed:
                self.gateway(name, **settings)
        if "zaas" in needed:
            self.zaas("zaas")
        if "million" in needed:
            self.gateway("million", rules=1_000_000)
        check_answers(self)
