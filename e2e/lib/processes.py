"""Separate processes that are asked like a [`World`]: regions, command line, metrics."""

import os

from .nodes import WITNESS, Nodes, NodesError
from .report import Failed, require
from .world import CASTLING, World


class Processes(World):
    """[`Nodes`] for the scenarios. `environment(node)` gives variables for its process."""

    def __init__(self, folder, addresses, prefix=lambda node: [], environment=lambda node: {}):
        # pylint: disable=super-init-not-called  # it starts otherwise; it is asked in the same ways
        def words(node):
            return [*prefix(node), "env", *(f"{name}={value}" for name, value in environment(node).items())]

        try:
            self.nodes = Nodes(CASTLING, folder=folder, addresses=addresses, prefix=words)
        except NodesError as why:
            raise Failed(str(why)) from None
        self.up = self.nodes.up()
        self.up["ca_file"] = os.path.abspath(self.up["ca_file"])
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
            os.environ[variable] = self.up["ca_file"]
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"

    def command(self, *words):
        return [CASTLING, "--data", self.nodes.operator, *map(str, words)]

    def log_path_of(self, node):
        return self.nodes.log(node)

    def is_dead(self, node):
        return not self.nodes.running(node)

    def start_nodes(self, *names, wait=True):
        try:
            self.nodes.start(*names, wait=wait)
        except NodesError as why:
            raise Failed(str(why)) from None

    def kill_node(self, node):
        if not self.is_dead(node):
            self.nodes.kill(node)

    def end(self, hard):
        """All of them: with SIGKILL, or in order."""
        if hard:
            self.nodes.close()
            return
        try:
            self.nodes.stop()
        except NodesError as why:
            self.nodes.close()
            raise Failed(str(why)) from None
        require(not any(self.nodes.running(node) for node in self.nodes.names), "a node still runs after it was stopped")


__all__ = ["WITNESS", "Processes"]
