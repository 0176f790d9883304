"""What other servers of these formats have, and the gateway has not: a clear answer in the place of a bare 404."""

from __future__ import annotations

from typing import Final, NoReturn

from rest_framework.request import Request
from rest_framework.views import APIView

from routing.api.errors import SERVED
from routing.endpoints.messages import rendering as messages_rendering
from routing.exceptions import NotFound

#: By what a path begins with, behind `/v1/`: what is not there, in the words of a sentence.
ABSENT: Final = {
    "responses": "There is nothing else of responses here: none is compacted, and their ids begin with 'resp_'",
    "conversations": "Conversations are not stored here",
    "chat/completions": "Chats are not stored here, so none can be retrieved, changed or deleted",
    "realtime": "Realtime sessions are not served, over WebSocket or WebRTC: use chat completions or responses",
    "files": "Files are not stored here: send them in the request",
    "uploads": "Files are not stored here: send them in the request",
    "batches": "Batches are not served: send the requests one by one",
    "messages/batches": "Batches are not served: send the requests one by one",
    "assistants": "Assistants and threads are not served: use chat completions or responses",
    "threads": "Assistants and threads are not served: use chat completions or responses",
    "vector_stores": "Vector stores are not served",
    "fine_tuning": "Fine-tuning is not served",
    "evals": "Evals are not served",
    "containers": "Containers are not served",
    "skills": "Skills are not stored here",
    "chatkit": "ChatKit is not served",
    "images": "Of the paths of pictures there are generations and edits",
    "videos": "Films are not made here",
    "audio": "Of the paths of sound there are speech, transcriptions and translations",
}


class AbsentView(APIView):
    """Needs no key: it says nothing but what the documents say. It says so in Anthropic's envelope to its clients."""

    authentication_classes = ()

    def initial(self, request: Request, *args: str, **path: str) -> NoReturn:
        """Before the method is looked at: there is nothing to be asked in any way. That is so for the GET that would
        open a WebSocket, too, whose client reads the status and the body of a handshake that is refused."""
        if "anthropic-version" in request.headers or path["name"].startswith("messages/"):
            self.rendering = messages_rendering
        raise NotFound(f"{ABSENT[path['name']]}. There are {SERVED}.")
