"""The gateway's own worker class, with deadlines that a test can wait for."""

from gateway_project.worker import GatewayWorker, Patience


class ImpatientWorker(GatewayWorker):
    patience = Patience(head_s=1, body_s=1, body_bytes_a_s=10_000, rest_s=1)


class CrowdedWorker(GatewayWorker):
    spare_connections = 50
    pages = 50
