"""A real HTTP server that plays the providers, for tests and for the demo."""

from tests.simulator.behaviour import Behaviour, ToolCall, Usage
from tests.simulator.log import ReceivedRequest
from tests.simulator.script import Where
from tests.simulator.server import Simulator

__all__ = ["Behaviour", "ReceivedRequest", "Simulator", "ToolCall", "Usage", "Where"]
