"""What other systems lack is not needed: Python's `os` as it is on Windows, no `fcntl`, no open file renamed."""

from __future__ import annotations

import dataclasses
import io
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import dd
from dd.base import files
from dd.base.names import file_name, same_file
from dd.base.progress import announce, reporter
from dd.contest.plan import named
from dd.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.campaigns.jobs import Users, every  # noqa: E402

# Names of `os` that Python's documentation gives for Windows, beside what subprocess itself needs here.
WINDOWS = """
import builtins, os, subprocess, sys, tempfile, multiprocessing, asyncio
for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
import torch, torchvision
kept = set('''
DirEntry F_OK O_APPEND O_CREAT O_EXCL O_RDONLY O_RDWR O_TRUNC O_WRONLY PathLike R_OK SEEK_CUR SEEK_END SEEK_SET TMP_MAX
W_OK X_OK abort access altsep chdir chmod close closerange cpu_count curdir defpath device_encoding devnull dup dup2
environ error execl execle execlp execlpe execv execve execvp execvpe extsep fdopen fsdecode fsencode fspath fstat fsync
ftruncate get_exec_path get_inheritable get_terminal_size getcwd getcwdb getenv getlogin getpid getppid isatty kill
linesep link listdir lseek lstat makedirs mkdir name open pardir path pathsep pipe popen putenv read readlink remove
removedirs rename renames replace rmdir scandir sep set_inheritable stat stat_result strerror supports_bytes_environ
supports_dir_fd supports_effective_ids supports_fd supports_follow_symlinks symlink system terminal_size times truncate
umask unlink unsetenv urandom utime waitpid waitstatus_to_exitcode walk write
'''.split())
for name in dir(os):
    if not name.startswith("_") and name not in kept:
        delattr(os, name)
os.supports_effective_ids.clear()

def in_use(path):
    full, fds = os.path.realpath(path), [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    with open("/proc/self/maps") as maps:
        return full in {os.path.realpath(fd) for fd in fds} or any(line.rstrip().endswith(full) for line in maps)

def guarded(real):
    def call(*paths, **options):
        if any(in_use(path) and ".held" not in str(path) for path in paths):  # Windows locks these by itself
            raise PermissionError(13, f"in use: {paths}")
        return real(*paths, **options)
    return call

for name in ("replace", "rename", "unlink", "remove"):
    setattr(os, name, guarded(getattr(os, name)))
"""

COMMON = """
from pathlib import Path
import dd
from dd.base import files, locks
from scripts.campaigns import jobs

os.chdir(sys.argv[1])
assert not files.FLOCK

def run(out, **options):
    return dd.distill("digits", jobs.method("mtt"), out=out, store="store", **{"progress": False, **options})

"""

FIRST = """
def stop(done, total, text):
    if total == 3 and done == 2:
        raise KeyboardInterrupt

run("whole")
try:
    run("broken", progress=stop)
except KeyboardInterrupt:
    assert not Path("broken/synthetic.safetensors").exists()
else:
    raise AssertionError("not interrupted")
loaded = dd.load("whole")
run("broken")
run("whole", resume=False)  # over the set that is loaded
for name in ("synthetic.safetensors", "log.jsonl"):
    assert Path("whole", name).read_bytes() == Path("broken", name).read_bytes(), name
assert "every checksum matches" in dd.verify("broken")
dd.evaluate("broken", "digits", repeats=1, steps=2, baselines=(), progress=False)
assert not [path for path in Path().rglob("*") if path.suffix in (".part", ".held")]
with locks.locked(Path("whole/.run.lock"), keep=False) as free:
    assert free
    print("held", flush=True)
    sys.stdin.readline()
"""

SECOND = """
print("ready", flush=True)
sys.stdin.readline()
try:
    run("whole", resume=False)
except dd.errors.InputError as error:
    print(error, flush=True)
sys.stdin.readline()
run("whole", resume=False)
print(dd.verify("whole"), sorted(path.name for path in Path("whole").iterdir()), flush=True)
"""

EVERY = """
for number, job in enumerate(jobs.every()):
    os.mkdir(f"{number}")
    os.chdir(f"{number}")
    with jobs.still():
        job.before()
        for _ in range(2):
            job.run()
            job.intact()
    assert not [path for path in Path().rglob("*") if path.suffix in (".part", ".held")], job.name
    os.chdir("..")
    print(job.name)
"""


def started(code: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", WINDOWS + COMMON + code, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_run_its_resume_and_its_locks_with_what_windows_has(tmp_path: Path) -> None:
    """A second process is refused, told who holds the folder, and let in once that process was killed."""
    with started(FIRST, tmp_path) as first, started(SECOND, tmp_path) as second:
        try:
            assert second.stdout is not None
            assert first.stdout is not None
            assert (first.stdout.readline(), second.stdout.readline()) == ("held\n", "ready\n")
            ask(second)
            assert (
                f"`out` = whole is in use by process {first.pid} on {socket.gethostname()}" in second.stdout.readline()
            )
            first.kill()
            first.wait()
            ask(second)
            told = second.stdout.readline()
            assert "every checksum matches" in told
            assert told.endswith("['log.jsonl', 'run.json', 'synthetic.safetensors']\n")
        finally:
            first.kill()
            second.kill()


@pytest.mark.slow
def test_every_job_with_what_windows_has(tmp_path: Path) -> None:
    pre = "import psutil, torch_geometric.loader\n"  # psutil has another half for Windows
    words = [sys.executable, "-W", "ignore", "-c", pre + WINDOWS + COMMON + EVERY, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.splitlines() == [job.name for job in every()]


def ask(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_file_that_was_swept_after_it_was_closed_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows renames no open file: between its end and its new name it is nobody's."""
    monkeypatch.setattr(files, "FLOCK", False)
    monkeypatch.setattr(files, "WINDOWS", True)
    fsync, swept = os.fsync, list[str]()

    def late(descriptor: int) -> None:
        fsync(descriptor)
        if not swept:
            swept.extend(path.name for path in tmp_path.glob(".*.part"))
            files.sweep(tmp_path, "x")

    monkeypatch.setattr(os, "fsync", late)
    files.write_bytes(tmp_path / "x", b"new")
    assert len(swept) == 1
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("x", b"new")]


def test_without_any_lock_of_a_file_what_is_unfinished_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FLOCK", False)
    monkeypatch.setattr(files, "WINDOWS", False)
    (tmp_path / ".x.0123abcd.part").touch()
    files.sweep(tmp_path, "x")
    assert (tmp_path / ".x.0123abcd.part").exists()


def test_loaded_tensors_keep_no_file(tmp_path: Path) -> None:
    """Who writes into the file in place changes nothing that was loaded."""
    path = tmp_path / "x.safetensors"
    files.save_tensors(path, {"x": torch.zeros(4096)}, {})
    loaded = files.load_tensors(path)[0]["x"]
    with path.open("r+b") as file:
        file.seek(-4096, 2)
        file.write(b"\1" * 4096)
    assert not loaded.any()


# Terminals


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_the_command_line_speaks_to_every_terminal(encoding: str) -> None:
    """A usage text with … and ±, and a message with what the user gave, which is no text at all."""
    code = (
        "import sys\n"
        "from dd.cli.main import main\n"
        "for argv in (['--help'], ['help', 'benchmark'], ['list', 'mtt'], ['verify', '/none/\\udcff–ö']):\n"
        "    try:\n"
        "        print(main(argv))\n"
        "    except SystemExit as end:\n"
        "        print(end.code)\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, env=environment, capture_output=True, check=False)
    told, errors = done.stdout.decode(encoding), done.stderr.decode(encoding, errors="replace")
    assert done.returncode == 0, errors
    assert [line for line in told.splitlines() if line.isdecimal()] == ["0", "0", "0", "1"]
    assert "no file or folder /none/" in errors
    assert "Traceback" not in errors


class Broken(io.TextIOWrapper):
    """A pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    flush = close = lambda self: None


def narrow() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")


@pytest.mark.parametrize("stream", [narrow(), Broken(io.BytesIO()), None], ids=["ascii", "broken", "none"])
def test_no_run_ends_for_its_terminal(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    bars = reporter("Größe → 3", progress=True)
    for done in (1, 2, 1, 3):
        bars(done, 3, "± 1 ✓")
    announce("± 1 ✓")
    if stream is not None and not isinstance(stream, Broken):
        told = stream.buffer.getvalue()
        assert b"\\xb1 1 \\u2713" in told
        assert told.endswith(b"\\xb1 1 \\u2713\n")


# Names of files


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mtt", "mtt"),
        ("convnet(width=4, norm=batch)", "convnet-width-4-norm-batch"),
        ('a:b*c?d"e<f>g|h/i\\j', "a-b-c-d-e-f-g-h-i-j"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("lpt9", "_lpt9"),
        ("console", "console"),
        ("trailing. . ", "trailing"),
        ("..", "unnamed"),
        ("größe\n\x1b[1m", "größe-1m"),
    ],
)
def test_names_of_files_are_valid_on_every_system(text: str, name: str) -> None:
    assert file_name(text) == name
    assert file_name(name) == name
    assert same_file(text.upper()) == same_file(text)


def test_methods_whose_files_would_be_one_are_refused() -> None:
    a, b = (dataclasses.replace(Users(), name=name) for name in ("My method", "my-Method"))
    with pytest.raises(InputError, match="different names; got 'My method' and 'my-Method', which would be one file"):
        named([a, b], ["mtt"], "images")
    with pytest.raises(InputError, match="different names; got 'My method' twice"):
        named([a, a], ["mtt"], "images")


@pytest.mark.parametrize("name", ["CON", "a:b", "end.", "what?", "two  blanks", "nul.v1"])
def test_a_recipe_that_could_not_name_a_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="`name` must be a text that can name a folder on every system"):
        dd.ExpertRecipe(name=name)
    assert dd.ExpertRecipe(name="my recipe v1.2").name == "my recipe v1.2"
