"""What is measured, each on one core with one worker: this proxy, and the references."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.payloads import MODEL
from benchmarks.processes import ROOT, running, wait_for

CLIENT_KEY = "Bearer sk-ant-oat01-benchmark-client"
OURS = "this proxy"
OURS_OPENAI = "this proxy (openai)"
NGINX = "nginx"
LITELLM = "LiteLLM"
DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Server:
    """A server under load. `paths` and `headers` lead to the behaviour that a workload wants."""

    name: str
    port: int
    pid: int | None
    headers: list[tuple[str, str]] = field(default_factory=list)
    prefix: str = ""
    start_seconds: float = 0.0


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, path: str, headers: dict[str, str] | None = None) -> bool:
    """Whether a GET is answered by 200."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", path, headers=headers or {})
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def direct(upstream: int) -> Server:
    return Server(DIRECT, upstream, None)


@contextmanager
def ours(core: int, upstream: int, *, openai: bool = False, profile: str = "") -> Iterator[Server]:
    """As in production: `manage.py serve`, a token, three providers, the history, the log.

    The first provider takes the client's credentials and refuses when the
    workload says so; the second answers, in Chat Completions with `openai`.
    """
    with tempfile.TemporaryDirectory(prefix="fallbackproxy-benchmark-") as name:
        folder, port = Path(name), free_port()
        environment = _clean_environment() | {"DATA_DIR": str(folder)}
        token = _configure(environment, upstream, openai)
        command = [sys.executable, "manage.py", "serve", "--bind", f"127.0.0.1:{port}"]
        command += ["--workers", "1"]
        log = folder / "log"
        with running(command, core, environment=environment, log=log) as process:
            seconds = wait_for(lambda: answers(port, "/healthz"), f"{OURS} serves", 60)
            identity = {"x-ccf-api-key": token}
            wait_for(lambda: answers(port, "/v1/ccf/status", identity), "the token is known", 20)
            headers = [("x-ccf-api-key", token), ("authorization", CLIENT_KEY)]
            headers += [("anthropic-version", "2023-06-01"), ("user-agent", "benchmark/1.0")]
            headers += [("x-claude-code-session-id", "01234567-89ab-cdef-0123-456789abcdef")]
            name = OURS_OPENAI if openai else OURS
            yield Server(name, port, process.pid, headers, start_seconds=seconds)


def _clean_environment() -> dict[str, str]:
    """Ours, less what would lead the proxy away from its defaults."""
    unwanted = ("DATABASE_URL", "LOG_LEVEL", "ALLOWED_HOSTS", "SECRET_KEY", "WEB_CONCURRENCY")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def _configure(environment: dict[str, str], upstream: int, openai: bool) -> str:
    root = f"http://127.0.0.1:{upstream}"
    second = {
        "name": "second",
        "baseUrl": f"{root}/second",
        "apiKey": "sk-second-0123456789",
        "modelMapping": {MODEL: "benchmark-model"},
    }
    chat = {
        "name": "chat",
        "baseUrl": f"{root}/chat/v1",
        "apiKey": "sk-chat-0123456789",
        "format": "openai",
        "modelMapping": {MODEL: "gpt-benchmark"},
    }
    document = {
        "primary": {"baseUrl": f"{root}/first"},
        "providers": [chat, second] if openai else [second, chat],
        # The provider that refuses is asked every time.
        "settings": {"cooldownDuration": 0},
    }
    manage(environment, "migrate", "--verbosity", "0")
    manage(environment, "import_config", "-", stdin=json.dumps(document))
    return manage(environment, "create_token", "--note", "benchmark", "--quiet").strip()


def manage(environment: dict[str, str], *arguments: str, stdin: str = "") -> str:
    result = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"manage.py {' '.join(arguments)}: {result.stderr}")
    return result.stdout


def find_nginx() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@contextmanager
def nginx(program: str, core: int, upstream: int) -> Iterator[Server]:
    """nginx as a bare reverse proxy: kept connections, no log, nothing written to disk."""
    with tempfile.TemporaryDirectory(prefix="fallbackproxy-nginx-") as name:
        folder, port = Path(name), free_port()
        (folder / "nginx.conf").write_text(_NGINX.format(folder=name, port=port, up=upstream))
        command = [program, "-p", name, "-e", f"{name}/error.log", "-c", f"{name}/nginx.conf"]
        with running(command, core, log=folder / "output") as process:
            seconds = wait_for(lambda: answers(port, "/alive"), "nginx serves", 10)
            yield Server(NGINX, port, process.pid, start_seconds=seconds)


_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    client_body_buffer_size 512k;
    keepalive_requests 1000000000;
    upstream mock {{
        server 127.0.0.1:{up};
        keepalive 600;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_buffering off;
        location = /alive {{ return 200; }}
        location /refuse/ {{
            proxy_pass http://mock;
            proxy_intercept_errors on;
            error_page 429 = @second;
        }}
        location @second {{ proxy_pass http://mock; rewrite ^/refuse(/.*)$ /second$1 break; }}
        location / {{ proxy_pass http://mock; }}
    }}
}}
"""


@contextmanager
def litellm(venv: Path, core: int, upstream: int) -> Iterator[Server]:
    """LiteLLM's proxy from a virtual environment of its own, one worker, in memory."""
    with tempfile.TemporaryDirectory(prefix="fallbackproxy-litellm-") as name:
        folder, port = Path(name), free_port()
        configuration = folder / "config.json"
        configuration.write_text(json.dumps(_litellm_configuration(upstream)))
        command = [str(venv / "bin/litellm"), "--config", str(configuration), "--num_workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
        environment = {
            "PATH": f"{venv}/bin:{os.environ.get('PATH', '')}",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "VIRTUAL_ENV": str(venv),
        }
        log = folder / "log"
        with running(command, core, environment=environment, directory=folder, log=log) as process:
            try:
                seconds = wait_for(lambda: answers(port, "/health/liveliness"), "LiteLLM", 120)
            except RuntimeError:
                print(log.read_text()[-3000:], file=sys.stderr)
                raise
            headers = [("authorization", "Bearer sk-master-benchmark")]
            headers += [("anthropic-version", "2023-06-01")]
            yield Server(LITELLM, port, process.pid, headers, start_seconds=seconds)


def _litellm_configuration(upstream: int) -> dict[str, object]:
    """YAML takes JSON. One model for each behaviour of the upstream."""
    root = f"http://127.0.0.1:{upstream}"

    def model(name: str, kind: str, path: str) -> dict[str, object]:
        parameters = {"model": kind, "api_base": root + path, "api_key": "sk-benchmark"}
        return {"model_name": name, "litellm_params": parameters}

    return {
        "model_list": [
            model(MODEL, f"anthropic/{MODEL}", "/second"),
            model("paced", f"anthropic/{MODEL}", "/paced"),
            model("refuse", f"anthropic/{MODEL}", "/refuse"),
            model("refuse-openai", f"anthropic/{MODEL}", "/refuse"),
            model("chat", "openai/gpt-4o", "/chat/v1"),
        ],
        "litellm_settings": {
            "num_retries": 0,
            "request_timeout": 120,
            "use_chat_completions_url_for_anthropic_messages": True,
        },
        "router_settings": {
            "num_retries": 0,
            "disable_cooldowns": True,
            "fallbacks": [{"refuse": [MODEL]}, {"refuse-openai": ["chat"]}],
        },
        "general_settings": {"master_key": "sk-master-benchmark"},
    }
