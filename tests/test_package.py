"""The installed package: built as a wheel, put into an environment of its own, and used from another folder."""

import contextlib
import json
import os
import re
import shutil
import site
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from pathlib import Path

import pytest

from pixelviz.measure import environment as measured_on

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def test_the_commit_says_where_files_of_the_package_differ_from_it(tmp_path, monkeypatch):
    def git(*arguments):
        said = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *said, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    package, page = tmp_path / "package", tmp_path / "README.md"
    (package / "measure").mkdir(parents=True)
    monkeypatch.setattr(measured_on, "__file__", str(package / "measure" / "environment.py"))
    for path in (page, package / "a.py"):
        path.write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    page.write_text("2")  # no code
    assert measured_on.commit() == git("rev-parse", "--short=10", "HEAD").strip()
    (package / "a.py").write_text("2")
    assert measured_on.commit() == git("rev-parse", "--short=10", "HEAD").strip() + "+"


def requirements(name):
    """The lines of a requirements file that name a package."""
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("-")]


def test_the_extra_dev_is_requirements_dev():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(project["optional-dependencies"]["dev"]) == sorted(requirements("requirements-dev.txt"))


def test_every_requirement_has_a_tested_version_that_any_index_may_have():
    tested = dict(re.split("==| ;", line)[:2] for line in requirements("constraints.txt"))
    asked = {re.split(r"[<>=\[ ;]", line)[0] for line in requirements("requirements.txt")}
    assert not {re.sub(r"[-_.]+", "-", name).lower() for name in asked} - set(tested)
    assert not any("+" in version for version in tested.values())


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment that has the wheel, and sees this one's packages (but not the checkout)."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    venv.create(folder / "venv", with_pip=True)
    (packages,) = (folder / "venv").glob("**/site-packages")
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", *folder.glob("*.whl")], check=True)
    return python.with_name("pixelviz")


def environment(folder):
    """A user's, with a home of its own; no checkout on Python's path."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PIXELVIZ_RUNS")}
    return kept | {"HOME": str(folder), "XDG_DATA_HOME": str(folder / "data"), "HF_HUB_OFFLINE": "1"}


def call(command, folder, *arguments):
    """stdout of the command, run in a folder."""
    done = subprocess.run(
        [command, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_command_says_what_it_can(installed, tmp_path):
    text = call(installed, tmp_path, "--help")
    assert all(f" {name} " in text for name in ("app", "train", "sample", "inspect"))


def test_the_bundled_checkpoints_draw_from_any_folder(installed, tmp_path):
    show = "from pixelviz.data import assets; print(assets.CHECKPOINTS); print(assets.default_runs())"
    checkpoints, runs = call(installed.with_name("python"), tmp_path, "-c", show).split()
    assert "site-packages" in checkpoints
    assert Path(runs) == tmp_path / "data" / "pixelviz" / "runs"
    call(installed, tmp_path, "sample", "--checkpoint", f"{checkpoints}/fashion-mnist", "--n", "2", "--out", "two.png")
    assert (tmp_path / "two.png").is_file()


def dockerfile():
    """(instruction, its text) of Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [tuple(line.split(" ", 1)) for line in lines]


def test_the_container_runs_as_nobody_in_particular_and_copies_what_there_is():
    steps = dockerfile()
    stages = [k for k, (what, _) in enumerate(steps) if what == "FROM"]
    assert len(stages) == 2
    last = dict(steps[stages[1] :])
    assert last["USER"] not in ("root", "0")
    python = re.fullmatch(r"python:(3\.\d+)-slim", last["FROM"]).group(1)
    assert f'python_version: "{python}"' in (ROOT / "README.md").read_text(encoding="utf-8")
    for what, text in steps[: stages[1]]:
        if what == "COPY":
            assert all((ROOT / name).exists() for name in text.split()[:-1])
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert not {"assets", "checkpoints", "pixelviz", "pyproject.toml", "README.md", "requirements.txt"} & set(ignored)


def test_the_container_s_command_and_its_health_check(installed, tmp_path):
    """What Dockerfile starts and asks, in the environment that has the installed package, on a free port."""
    steps = dict(dockerfile())
    port = str(free_port())

    def words(text):
        return [word.replace("7860", port).replace("0.0.0.0", "127.0.0.1") for word in json.loads(text)]

    path = {"PATH": f"{installed.parent}:{os.environ['PATH']}"}
    check = words(steps["HEALTHCHECK"].split("CMD ")[1])
    options = {"cwd": tmp_path, "env": environment(tmp_path) | path}
    assert subprocess.run(check, **options, capture_output=True).returncode != 0
    process = subprocess.Popen(words(steps["CMD"]), **options)
    try:
        answer(f"http://127.0.0.1:{port}/config", process)
        assert subprocess.run(check, **options).returncode == 0
    finally:
        process.terminate()
        process.wait(30)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answer(address, process, patience=120):
    """The text at an address, as soon as there is one."""
    until = time.monotonic() + patience
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as response:
            return response.read().decode()
        time.sleep(0.5)
    pytest.fail(f"the app did not answer (exit status {process.poll()})")


@contextlib.contextmanager
def running(command, folder, *arguments):
    """The app's address and its process, stopped at the end."""
    port = free_port()
    process = subprocess.Popen([command, "app", "--port", str(port), *arguments], cwd=folder, env=environment(folder))
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(30)


def test_the_app_starts_with_all_it_shows(installed, tmp_path):
    with running(installed, tmp_path) as (address, process):
        assert "PixelViz" in answer(address, process)
        modules = re.search(r"/pixelviz/[0-9a-f]{12}", answer(f"{address}/config", process)).group()
        assert "export" in answer(f"{address}{modules}/page.js", process)


def test_behind_a_proxy_all_addresses_have_its_path(installed, tmp_path):
    with running(installed, tmp_path, "--root-path", "/lab/pixelviz") as (address, process):
        page = answer(address, process)
        links = re.findall(r'(?:src|href)="([^"#]*assets/[^"]*)"', page)
        assert links
        assert '"root":"/lab/pixelviz"' in page or "/lab/pixelviz" in re.search(r'"root": ?"([^"]*)"', page).group(1)
        if NGINX:
            front = free_port()
            (tmp_path / "nginx.conf").write_text(
                f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/errors; events {{}}\n"
                f"http {{ access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;\n"
                f" fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
                f" server {{ listen 127.0.0.1:{front};\n"
                f"  location /lab/pixelviz/ {{ proxy_pass {address}/; proxy_buffering off;\n"
                "   proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; } } }\n",
                encoding="utf-8",
            )
            proxy = subprocess.Popen([NGINX, "-p", tmp_path, "-c", tmp_path / "nginx.conf"])
            try:
                base = f"http://127.0.0.1:{front}/lab/pixelviz"
                assert "PixelViz" in answer(f"{base}/", proxy)
                modules = re.search(r"/pixelviz/[0-9a-f]{12}", answer(f"{base}/config", proxy)).group()
                assert "export" in answer(f"{base}{modules}/page.js", proxy)
            finally:
                proxy.terminate()
                proxy.wait(30)
