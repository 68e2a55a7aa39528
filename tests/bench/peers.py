"""The peers that plumb is measured against, installed from PyPI at pinned versions into an environment of their own."""
import os
import subprocess
import sys

PINS = ["ninja==1.13.2", "snakemake==9.27.1", "redun==0.44.1", "dvc==3.67.1"]


class Peers:
    """The programs, by name; installed at the first call for this folder."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        done = os.path.join(self.folder, "installed")
        if not os.path.exists(done) or open(done).read() != "\n".join(PINS):
            print(f"installing {', '.join(PINS)} into {self.folder}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
            subprocess.run([self.program("pip"), "install", "--quiet", *PINS], check=True)
            with open(done, "w") as file:
                file.write("\n".join(PINS))

    def program(self, name):
        return os.path.join(self.folder, "bin", name)

    def environment(self, home):
        """No peer reads the user's settings or tells anybody that it ran."""
        path = os.path.join(self.folder, "bin") + os.pathsep + os.environ["PATH"]
        return {"PATH": path, "HOME": home, "DVC_NO_ANALYTICS": "1", "XDG_CACHE_HOME": os.path.join(home, "cache")}
