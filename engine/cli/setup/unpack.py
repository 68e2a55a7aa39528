"""Copies named members of a wheel: unpack.py WHEEL FOLDER MEMBER...; a member that ends in "/" is a folder."""
import os
import shutil
import sys
import zipfile

wheel, folder, *wanted = sys.argv[1:]
folders = tuple(name for name in wanted if name.endswith("/"))
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        if member.is_dir() or not (member.filename in wanted or (folders and member.filename.startswith(folders))):
            continue
        path = os.path.join(folder, member.filename)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with archive.open(member) as source, open(path, "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
