"""What the server refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atypia.base.errors import InputError
from atypia.review.figures.figures import ReviewFigures
from atypia.review.server import safety
from atypia.review.server.app import create_app
from atypia.review.server.safety import Access, cookie_name, cookies
from atypia.review.server.serving import chosen_token

TOKEN = "a token of forty characters, made for test"
NEW = {"name": "Dan"}


def test_cross_site_writes_change_nothing(client) -> None:
    http = client.http
    assert http.post("/raters", json=NEW).status_code == 403
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:8470@evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        answer = http.post("/raters", json=NEW, headers={"X-Atypia": "1", **headers})
        assert answer.status_code == 403 and "other sites" in answer.json()["detail"], headers
    assert client.get("/session")["raters"] == ["Ada", "Ben"]
    own = {"X-Atypia": "1", "Origin": "http://127.0.0.1:8470", "Sec-Fetch-Site": "same-origin"}
    assert http.post("/raters", json=NEW, headers=own).status_code == 201
    # A browser asks before it sends a header of ours from elsewhere, and is not told that it may.
    asked = http.options("/raters", headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    assert "access-control-allow-origin" not in asked.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "evil.example:8470", "0.0.0.0", "[::"])
def test_other_names_for_loopback_are_refused(client, host: str) -> None:
    answer = client.http.get("/session", headers={"Host": host})
    assert answer.status_code == 421 and "`Host`" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost:8470", "127.0.0.1", "[::1]:8470", "127.0.0.2:1"])
def test_names_of_loopback(client, host: str) -> None:
    assert client.http.get("/health", headers={"Host": host}).status_code == 200


def test_beyond_loopback_a_token_is_needed(figures: ReviewFigures, reviewing: Callable) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::"):
        with pytest.raises(InputError, match="`token` must be given where the host is"):
            Access(host)
    with pytest.raises(InputError, match="`token` must be at least 16 plain characters, got 5"):
        Access("0.0.0.0", "short")
    client = reviewing(figures, "Ada", access=Access("0.0.0.0", TOKEN))
    http: TestClient = client.http
    assert http.get("/health").status_code == 200
    for path in ("/", "/session", "/figures/0/crop", "/static/js/app.js", "/openapi.json", "/metrics", "/none"):
        assert http.get(path).status_code == 401, path
    assert http.get("/?token=wrong", follow_redirects=False).status_code == 401
    assert http.get(f"/session?token={TOKEN}").status_code == 401  # only the page takes it from its address
    assert http.get("/session", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    answer = http.get("/", params={"token": TOKEN, "view": "slides"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?view=slides")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and TOKEN not in cookie
    assert http.get("/session").status_code == 200  # the client keeps the cookie
    assert http.post("/raters", json=NEW).status_code == 403  # which does not stand for the header


OTHERS = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters=";"), max_size=30)


@given(st.lists(OTHERS), st.lists(OTHERS))
@settings(max_examples=100, deadline=None)
def test_cookies_of_others_lock_nobody_out(before: list[str], after: list[str]) -> None:
    assume(all(other.partition("=")[0].strip() != "atypia_8470" for other in (*before, *after)))
    line = "; ".join([*before, "atypia_8470=abc123", *after])
    assert cookies([line], "atypia_8470") == ["abc123"]
    assert cookies(before, "atypia_8470") == [] == cookies(["xatypia_8470=1", "atypia_84700=1"], "atypia_8470")


@pytest.mark.parametrize(
    "other", ['prefs={"a":1}', "name=Zoë", "flag", "path=/", "=", "x=a, b", 'y="', "$Version=1", "atypia_1=z", ";;"]
)
def test_another_cookie_on_the_host(figures: ReviewFigures, reviewing: Callable, other: str) -> None:
    access = Access("0.0.0.0", TOKEN)
    http: TestClient = reviewing(figures, "Ada", access=access).http
    own = f"{cookie_name({'server': ('127.0.0.1', 8470)})}={access.cookie}"
    for line in (f"{other}; {own}", f"{own}; {other}", own):
        assert http.get("/session", headers={"Cookie": line.encode("latin-1")}).status_code == 200, line
    assert http.get("/session", headers={"Cookie": f"{other}; {own}x".encode("latin-1")}).status_code == 401


def test_the_cookie_expires_and_is_secure_behind_tls(figures: ReviewFigures, reviewing: Callable) -> None:
    http: TestClient = reviewing(figures, "Ada", access=Access("0.0.0.0", TOKEN)).http

    def cookie(address: str = "/", **headers: str) -> str:
        answer = http.get(address, params={"token": TOKEN}, headers=headers, follow_redirects=False)
        assert answer.status_code == 303
        http.cookies.clear()
        return answer.headers["set-cookie"]

    assert f"Max-Age={safety.COOKIE_S}" in cookie() and "Secure" not in cookie()
    assert "Secure" in cookie(**{"X-Forwarded-Proto": "https"})
    assert "Secure" in cookie("https://127.0.0.1:8470/")
    assert "Secure" not in cookie(**{"X-Forwarded-Proto": "http"})


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token.txt"
    file.write_text(f"{TOKEN.replace(' ', '-')}\n")
    assert chosen_token(None, file, {"ATYPIA_TOKEN": "other"}) == TOKEN.replace(" ", "-")
    assert chosen_token(None, None, {"ATYPIA_TOKEN": TOKEN}) == TOKEN
    assert chosen_token("given", None, {"ATYPIA_TOKEN": TOKEN}) == "given"
    assert chosen_token(None, None, {}) is None
    with pytest.raises(InputError, match="`token` must be given once"):
        chosen_token("given", file, {})
    for content in (b"", b"two words", b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(InputError, match="`--token-file` must be a file with"):
            chosen_token(None, file, {})
    with pytest.raises(InputError, match="No such file"):
        chosen_token(None, tmp_path / "none", {})


def test_headers(client) -> None:
    for path in ("/", "/session", "/figures/0/crop", "/none", "/figures/9999"):
        headers = client.http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer" and "cache-control" in headers
    assert client.http.get("/session").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../server.py",
        "/static/%2e%2e/%2e%2e/server.py",
        "/static/..%2f..%2fserver.py",
        "/static//etc/passwd",
        "/static/%00",
        "/figures/..%2f..%2fetc%2fpasswd/crop",
        "/figures/-1/crop",
        "/figures/80/crop",
        "/figures/1e3/crop",
        "/figures/99999999999999999999999/crop",
        "/slides/..%2f..%2fetc%2fpasswd.dzi",
        "/slides/0_files/..%2f..%2f1/0_0.jpeg",
        "/slides/0_files/1/0_..%2f.jpeg",
        "/exports/..%2flog.csv",
        "/exports/decisions.sqlite",
        "/docs",
        "/redoc",
    ],
)
def test_no_path_leads_outside(client, path: str) -> None:
    answer = client.http.get(path)
    assert answer.status_code in (404, 422), answer.text
    assert "root:" not in answer.text and "import" not in answer.text


def test_script_in_a_note_stays_text(client) -> None:
    note = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    client.decide("Ada", 0, "atypical", note=note)
    assert client.get("/figures/0", params={"rater": "Ada"})["note"] == note
    for path in ("/figures?rater=Ada", "/decisions", "/exports/decisions.csv", "/exports/log.csv"):
        answer = client.http.get(path)
        assert "<script>" in answer.text
        assert answer.headers["content-type"].split(";")[0] in ("application/json", "text/csv")
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in client.http.get("/").text
    bad = client.post("/decisions", {"rater": "Ada", "index": 0, "decision": "<script>"}, 422)
    assert "`decision`" in bad["detail"]


def test_bodies_are_counted(client, monkeypatch: pytest.MonkeyPatch) -> None:
    big = {"rater": "Ada", "index": 0, "decision": None, "note": "x" * safety.MAX_JSON_BYTES}
    assert "at most" in client.post("/decisions", big, 413)["detail"]
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1 << 16
            yield b"x" * (1 << 16)

    headers = {"X-Atypia": "1", "Content-Type": "application/json"}
    assert client.http.post("/decisions", content=endless(), headers=headers).status_code == 413  # without a length
    monkeypatch.setitem(safety.BODY_LIMITS, "/predict", 4096)
    files = [("files", ("a.png", b"x" * 5000))]
    assert client.http.post("/predict", files=files, headers={"X-Atypia": "1"}).status_code == 413
    kind = {"X-Atypia": "1", "Content-Type": "multipart/form-data; boundary=b"}
    start = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    stream = (part for part in (start, *[b"x" * 1000] * 9))
    assert client.http.post("/predict", content=stream, headers=kind).status_code == 413
    assert client.http.post("/raters", content=b"{}", headers={**headers, "Content-Length": "x"}).status_code == 413
    assert client.get("/decisions") == []


def test_malformed_requests_are_no_server_errors(client) -> None:
    headers = {"X-Atypia": "1", "Content-Type": "application/json"}
    bodies = [b"", b"{", b"[]", b"null", b"\xff", b'{"name": 1}', b'{"name": "\\ud800"}', b'{"name": "a", "b": 1}',
              b'{"name": "' + b"x" * 5000 + b'"}', b"[" * 5000]  # fmt: skip
    for body in bodies:
        answer = client.http.post("/raters", content=body, headers=headers)
        assert answer.status_code in (400, 422) and isinstance(answer.json()["detail"], str), body[:40]
    for data in (b"", b"--b", b"--b\r\n\r\n"):
        kind = {"X-Atypia": "1", "Content-Type": "multipart/form-data; boundary=b"}
        assert client.http.post("/imports", content=data, headers=kind).status_code in (400, 422)
        assert client.http.post("/predict", content=data, headers=kind).status_code in (400, 422)
    assert client.http.post("/predict", files={"files": b"x"}, headers={"X-Atypia": "1"}).status_code == 409  # no model


def test_metrics_name_routes_not_addresses(client) -> None:
    client.get("/figures/3")
    client.http.get("/figures/4/crop")
    client.http.get("/made-up-by-a-scanner")
    client.decide("Ada", 0, "normal")
    text = client.http.get("/metrics").text
    assert 'atypia_requests_total{method="GET",route="/figures/{index}",status="200"} 1' in text
    assert "atypia_figures 80" in text and "atypia_events_total 1" in text
    assert "made-up" not in text and 'route="other",status="404"' in text


def test_openapi_is_complete(figures: ReviewFigures, client) -> None:
    described = client.get("/openapi.json")
    assert described == create_app(client.review, Access("127.0.0.1")).openapi()
    paths = {
        "/health", "/metrics", "/session", "/figures", "/figures/{index}", "/figures/{index}/crop", "/raters",
        "/decisions", "/decisions/several", "/decisions/undo", "/assignments", "/consensus", "/arbitration", "/queue", "/slides", "/slides/{slide}.dzi",
        "/slides/{slide}_files/{level}/{column}_{row}.jpeg", "/slides/{slide}/figures", "/exports/{name}", "/imports",
        "/predict", "/rates", "/calibration",
    }  # fmt: skip
    assert set(described["paths"]) == paths
    assert all("description" in one for path in described["paths"].values() for one in path.values())
