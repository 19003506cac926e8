"""Checks the digest of a downloaded package and unpacks it: unpack.py FILE ALGORITHM DIGEST FOLDER."""
import hashlib
import os
import stat
import sys
import tarfile
import zipfile

file, algorithm, wanted, folder = sys.argv[1:]
digest = hashlib.new(algorithm)
with open(file, "rb") as source:
    while chunk := source.read(1 << 20):
        digest.update(chunk)
if digest.hexdigest() != wanted:
    sys.exit(f"{os.path.basename(file)}: {algorithm} is {digest.hexdigest()}, the lock says {wanted}")

if file.endswith(".whl"):
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            path = archive.extract(entry, folder)
            if not entry.is_dir() and (entry.external_attr >> 16) & stat.S_IXUSR:
                os.chmod(path, 0o755)
else:
    with tarfile.open(file) as archive:
        for member in archive:
            if member.issym() or member.islnk() or member.name.startswith("/") or ".." in member.name.split("/"):
                sys.exit(f"{os.path.basename(file)}: unexpected member {member.name}")
        archive.extractall(folder)
