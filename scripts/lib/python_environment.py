"""Gives a script the Python packages that it needs, in an environment below target/. It never changes the system's packages."""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).absolute()


def enter(name, packages):
    """Runs the script again in the environment target/NAME, unless it runs there already. Returns the folder of its programs."""
    environment = TARGET / name
    python = environment / "bin/python"
    stamp = environment / "packages"
    if not stamp.exists() or stamp.read_text() != " ".join(packages):
        print("installing " + ", ".join(packages), file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "-q", "--disable-pip-version-check", "install", *packages], check=True)
        stamp.write_text(" ".join(packages))
    if Path(sys.prefix) != environment:
        os.execv(python, [str(python), *sys.argv])
    return environment / "bin"
