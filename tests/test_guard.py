"""Who may come in: a room's code, and passwords; and what the app is started with."""

import httpx
import pytest
from gradio_client import Client
from typer import BadParameter

from pixelviz.ui import guard, serve
from pixelviz.ui.app import build_app, launch_options
from tests.served import tiny_service

CODE = "Kite 42!"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """The address of an app with a room's code."""
    demo = build_app(tiny_service(tmp_path_factory.mktemp("room")))
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **launch_options(CODE))
    yield url.rstrip("/")
    demo.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Wrong codes are answered at once."""
    monkeypatch.setattr(guard, "WRONG_SECONDS", 0)


def test_without_the_code_nothing_is_served(room):
    for path in (
        "/",
        "/config",
        "/gradio_api/info",
        "/gradio_api/queue/data?session_hash=x",
        "/?room=wrong",
        "/theme.css",
    ):
        answer = httpx.get(room + path)
        assert answer.status_code == 401
        assert 'name="room"' in answer.text
        assert "gradio" not in answer.text
        assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert httpx.post(f"{room}/gradio_api/upload", files={"files": ("x", b"x" * 5000)}).status_code == 401
    assert "not the code" in httpx.post(room, data={"room": "wrong"}).text
    forged = httpx.get(room, cookies={guard.COOKIE: "x"}, headers={"x-room": "wrong"})
    assert forged.status_code == 401


@pytest.mark.parametrize("how", ["typed", "linked"])
def test_the_code_is_given_once(room, how):
    with httpx.Client(base_url=room, follow_redirects=True) as visitor:
        if how == "typed":
            page = visitor.post("/?x=1", data={"room": " kite 42! "})  # as people type
        else:
            page = visitor.get("/", params={"room": CODE, "x": 1})
        assert page.status_code == 200
        assert "window.gradio_config" in page.text
        assert page.url.query == b"x=1"
        assert visitor.get("/config").status_code == 200
        assert CODE not in visitor.cookies[guard.COOKIE]


def test_scripts_give_the_code_in_a_header(room):
    client = Client(room, verbose=False, headers={"x-room": CODE})
    assert client.predict(api_name="/train_status")["state"] == "idle"


def test_users_come_as_pairs_or_from_a_file(tmp_path):
    (tmp_path / "users").write_text("ada: secret\n\nbob:b:c\n")
    assert serve._users(["eve:x", str(tmp_path / "users")]) == [("eve", "x"), ("ada", " secret"), ("bob", "b:c")]
    assert serve._users([]) == []
    for wrong in ("nobody", "a:", ":b", str(tmp_path)):
        with pytest.raises(BadParameter, match="USER:PASSWORD"):
            serve._users([wrong])


def test_a_password_keeps_others_out(tmp_path):
    demo = build_app(tiny_service(tmp_path))
    users = serve._users(["ada:secret"])
    _, url, _ = demo.launch(
        prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", auth=users, **launch_options()
    )
    try:
        assert httpx.get(f"{url}config").status_code == 401
        assert httpx.get(f"{url}gradio_api/queue/data?session_hash=x").status_code == 401
        assert httpx.post(f"{url}login", data={"username": "ada", "password": "wrong"}).status_code == 400
        assert Client(url, verbose=False, auth=("ada", "secret")).predict(api_name="/train_status")["state"] == "idle"
    finally:
        demo.close()


def test_a_code_that_can_be_guessed_is_refused():
    assert serve._code(None) is None
    assert serve._code(CODE) == CODE
    with pytest.raises(BadParameter, match="at least 6"):
        serve._code("  1234  ")
