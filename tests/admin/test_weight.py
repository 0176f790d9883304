"""What browsers, and whoever acts like them, may lay on the gateway through the admin's paths."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from pytest_django import Settings

from routing.api import browsers


class Unread:
    """A body that nobody may read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


@pytest.mark.parametrize(
    "heavy", [{"CONTENT_LENGTH": str(2**20 + 1)}, {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}]
)
@pytest.mark.parametrize("path", ["/admin/login/", "/admin/accounting/apikey/add/", "/static/routing/admin.css"])
def test_a_form_that_weighs_too_much_is_refused_before_it_is_read(path: str, heavy: dict[str, str]) -> None:
    request = RequestFactory().post(path, content_type="multipart/form-data; boundary=x")
    request.META |= heavy | {"wsgi.input": Unread()}

    def handle(_: object) -> None:
        raise AssertionError("it was handed on")

    assert browsers.Forms(handle)(request).status_code == 413  # type: ignore[arg-type]


def test_a_file_that_is_sent_with_a_form_is_kept_nowhere(
    db: None, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    upload = {"username": "x", "password": "y", "file": SimpleUploadedFile("large", b"x" * 900_000)}
    answer = Client().post("/admin/login/", upload)
    assert answer.status_code == 200  # a wrong password
    assert not answer.wsgi_request.FILES
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_keeps_postgres_busy_is_given_up(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "READING_S", 0.2)
    reading = browsers.Reading(lambda _: connection.cursor().execute("SELECT pg_sleep(20)"))
    request = RequestFactory().get("/admin/accounting/ledgerentry/")
    with pytest.raises(OperationalError) as canceled:
        reading(request)
    answer = reading.process_exception(request, canceled.value)
    assert answer is not None
    assert (answer.status_code, answer["Content-Type"]) == (503, "text/plain")
    assert "Narrow it" in answer.content.decode()
    assert reading.process_exception(request, ValueError()) is None
