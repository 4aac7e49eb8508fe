"""The configuration of nginx in service/docs/security.md, in front of a real service."""

import re
import shutil
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.process import ROOT, Process
from tests.support.tls import make_certificate
from tests.support.wait import wait_until
from tests.support.web import Web

NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
TOKEN = "a-token-for-this-test"  # noqa: S105  of a server that lives for a test
FRAME = """
master_process off; pid {folder}/nginx.pid; error_log stderr; events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {server}
}}
"""


def configuration(folder: Path, web: Web, port: int) -> Path:
    """The guide's, with the addresses and files of this test."""
    guide = (ROOT / "service/docs/security.md").read_text()
    (server,) = re.findall(r"```nginx\n(.*?)```", guide, re.DOTALL)
    certificate, key = make_certificate(folder)
    for theirs, ours in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("/etc/ssl/jobs.example.pem", f"{certificate}"),
        ("/etc/ssl/jobs.example.key", f"{key}"),
        ("http://127.0.0.1:8000", web.url),
    ):
        assert theirs in server
        server = server.replace(theirs, ours)
    path = folder / "nginx.conf"
    path.write_text(FRAME.format(folder=folder, server=server))
    return path


@pytest.mark.skipif(NGINX is None, reason="needs nginx, which apt has")
def test_behind_nginx_all_is_as_the_browser_sees_it(redis_url: str, tmp_path: Path) -> None:
    """And what a client makes up of itself counts for nothing."""
    port = free_port()
    settings = {
        "SERVICE_TRUSTED_PROXIES": "127.0.0.1",
        "SERVICE_TRUSTED_HOSTS": "jobs.example",
        "SERVICE_ADMIN_TOKEN": TOKEN,
    }
    with Web(redis_url, **settings) as web:
        web.wait_until_ready()
        path = str(configuration(tmp_path, web, port))
        command = [NGINX or "", "-g", "daemon off;", "-c", path]
        with Process(command, name="nginx"):
            context = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
            context.check_hostname = False
            url = f"https://127.0.0.1:{port}"
            forged = {
                "Host": "jobs.example",
                "Forwarded": "for=198.51.100.9;host=evil.example",
                "X-Forwarded-For": "198.51.100.9",
                "X-Forwarded-Host": "evil.example",
                "X-Forwarded-Prefix": "/evil",
                "Upgrade": "h2c",
            }
            with httpx.Client(verify=context, headers=forged, timeout=10) as client:
                wait_until(lambda: _answers(client, url), description="nginx answers")
                answer = client.post(f"{url}/dashboard/sign-in", data={"token": TOKEN})
                assert (answer.status_code, answer.headers["Location"]) == (303, "/dashboard")
                assert "Secure" in answer.headers["Set-Cookie"]
                assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
                job = client.post(f"{url}/tasks/demo.my_add", json={"a": 1, "b": 2})
                assert job.status_code == 202
                assert urlsplit(job.headers["Location"]).path.startswith("/result/")
                other = client.get(f"{url}/tasks", headers={"Host": "evil.example"})
                assert other.status_code == 421
            assert "Traceback" not in web.output


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(f"{url}/tasks").status_code == 200
    except httpx.TransportError:
        return False
