"""A front for gcp-storage-emulator, in its process: python3 front.py PORT [ADDRESS]

The emulator (PyPI gcp-storage-emulator) keeps buckets and objects, makes their resources and computes checksums. Its
server lacks what follows, which Cloud Storage documents and clients rely on. This front adds that and nothing else,
and is strict where Cloud Storage is, so that a mistake of a client's is not hidden:

 1. Preconditions. ifGenerationMatch is ignored by the emulator; here it holds, atomically, for uploads, and for
    resumable ones at their start and at their end. A violation is 412 conditionNotMet.
 2. Resumable uploads. The emulator cannot cancel a session (DELETE, answered by 499), forgets it with the last piece
    (a status query then is 200 with the object), reports one byte where it has none (no Range header then), loses a
    piece whose connection is cut (multiples of 256 KiB are kept), and takes pieces that are no multiple (400).
 3. Checksums in x-goog-hash of a last piece, or in the metadata of an upload, are checked; a wrong one is 400.
 4. Listings come in pages (maxResults, pageToken, nextPageToken), in the order of the names' UTF-8 bytes.
 5. Errors have the API's JSON body, and a missing bucket differs from a missing object in its text.
 6. Downloads carry x-goog-generation and its relatives; a range that begins beyond the end is 416.
 7. `GET` and `HEAD` of /bucket/object, the XML API's, as DuckDB reads gs:// URLs.
 8. Keep-alive, several requests at a time, and bodies that come in chunks.

Objects live in memory and are gone with the process. Any credentials are taken for good.
"""

import base64
import json
import re
import sys
import threading
import uuid
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import Conflict, NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.storage import Storage

QUANTUM = 256 * 1024
REASONS = {400: "invalid", 404: "notFound", 412: "conditionNotMet", 416: "requestedRangeNotSatisfiable"}


class MemoryStorage(Storage):
    def create_bucket(self, bucket_name, bucket_obj):
        """What is deleted is gone at once; the emulator does not let whoever makes a bucket say so."""
        bucket_obj["softDeletePolicy"] = {"retentionDurationSeconds": "0"}
        return super().create_bucket(bucket_name, bucket_obj)

    def _write_config_to_file(self):
        """The emulator would write down all objects with each change, to read them when it starts again."""


class Refused(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Session:
    """A resumable upload."""

    def __init__(self, bucket, name, metadata, condition):
        self.bucket, self.name, self.metadata, self.condition = bucket, name, metadata, condition
        self.content = bytearray()
        self.object = None


class Store:
    """The emulator's storage, and what it lacks."""

    def __init__(self):
        self.lock = threading.RLock()
        self.storage = MemoryStorage(use_memory_fs=True)
        self.sessions = {}

    def bucket(self, bucket):
        if self.storage.get_bucket(bucket) is None:
            raise Refused(404, "The specified bucket does not exist.")

    def find(self, bucket, name):
        self.bucket(bucket)
        try:
            return self.storage.get_file_obj(bucket, name)
        except NotFound:
            raise Refused(404, f"No such object: {bucket}/{name}") from None

    def check(self, bucket, name, condition):
        self.bucket(bucket)
        if condition is None:
            return
        try:
            generation = self.find(bucket, name)["generation"]
        except Refused:
            generation = "0"
        if generation != condition:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")

    def create(self, bucket, name, content, metadata, condition, base_url):
        self.check(bucket, name, condition)
        kind = metadata.get("contentType", "application/octet-stream")
        resource = objects._make_object_resource(base_url, bucket, name, kind, str(len(content)), metadata)
        try:
            resource = objects._checksums(content, resource)
        except Conflict as error:
            raise Refused(400, str(error)) from None
        self.storage.create_file(bucket, name, content, resource)
        return resource

    def delete(self, bucket, name, generation):
        found = self.find(bucket, name)
        if generation not in (None, found["generation"]):
            raise Refused(404, f"No such object: {bucket}/{name}")
        self.storage.delete_file(bucket, name)

    def page(self, bucket, prefix, most, token):
        self.bucket(bucket)
        found, _ = self.storage.get_file_list(bucket, prefix)
        found.sort(key=lambda resource: resource["name"].encode())
        if token is not None:
            last = base64.urlsafe_b64decode(token)
            found = [resource for resource in found if resource["name"].encode() > last]
        page = {"kind": "storage#objects"}
        if found:
            page["items"] = found[:most]
        if len(found) > most:
            page["nextPageToken"] = base64.urlsafe_b64encode(found[most - 1]["name"].encode()).decode()
        return page


class Handler(emulator.RequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet: two would wait for each other's acknowledgement.
    wbufsize = 64 * 1024

    def __init__(self, store, *args):
        self.store = store
        super().__init__(store.storage, *args)

    def do_GET(self):
        self.answer_with("GET")

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = lambda self: self.answer_with(self.command)

    def answer_with(self, method):
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.body = self.read_body()
        self.base_url = f"http://{self.headers['Host']}"
        try:
            for pattern, route in ROUTES:
                match = re.fullmatch(pattern, f"{method} {parts.path}")
                if match:
                    with self.store.lock:
                        return route(self, *map(unquote, match.groups()))
            return self.emulate(method)
        except Refused as refused:
            self.send_error_body(refused.status, str(refused))

    def read_body(self):
        """All of it, so that the next request on the connection begins where it should."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while length := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(length)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(body)

    def emulate(self, method):
        """All else, buckets above all, is the emulator's."""
        self.rfile_of_connection, self.rfile = self.rfile, Body(self.body)
        try:
            with self.store.lock:
                emulator.Router(self).handle(method)
        finally:
            self.rfile = self.rfile_of_connection

    def send(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_json(self, value, status=200):
        self.send(status, json.dumps(value).encode(), [("Content-Type", "application/json; charset=UTF-8")])

    def send_error_body(self, status, message):
        if self.query.get("alt") == "media":
            return self.send(status, message.encode(), [("Content-Type", "text/html; charset=UTF-8")])
        error = {"domain": "global", "reason": REASONS[status], "message": message}
        self.send_json({"error": {"code": status, "message": message, "errors": [error]}}, status)

    # Objects

    def object(self, bucket, name):
        resource = self.store.find(bucket, name)
        if self.query.get("alt") == "media":
            return self.media(bucket, name)
        self.send_json(resource)

    def media(self, bucket, name):
        resource = self.store.find(bucket, name)
        content = self.store.storage.get_file(bucket, name)
        headers = [
            ("Content-Type", resource["contentType"]),
            ("ETag", f'"{resource["md5Hash"]}"'),
            ("Last-Modified", self.date_time_string(int(resource["generation"]) // 10**9)),
            ("Accept-Ranges", "bytes"),
            ("x-goog-generation", resource["generation"]),
            ("x-goog-metageneration", resource["metageneration"]),
            ("x-goog-stored-content-length", str(len(content))),
            ("x-goog-stored-content-encoding", "identity"),
            ("x-goog-storage-class", resource["storageClass"]),
            ("x-goog-hash", f"crc32c={resource['crc32c']},md5={resource['md5Hash']}"),
        ]
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return self.send(200, content, headers)
        first, last = int(match[1]), int(match[2] or len(content))
        if first >= len(content):
            raise Refused(416, "The requested range cannot be satisfied.")
        piece = content[first : last + 1]
        headers.append(("Content-Range", f"bytes {first}-{first + len(piece) - 1}/{len(content)}"))
        self.send(206, piece, headers)

    def delete(self, bucket, name):
        self.store.delete(bucket, name, self.query.get("generation"))
        self.send(204)

    def list(self, bucket):
        most = int(self.query.get("maxResults", 1000))
        self.send_json(self.store.page(bucket, self.query.get("prefix", ""), most, self.query.get("pageToken")))

    # Uploads

    def upload(self, bucket):
        condition = self.query.get("ifGenerationMatch")
        kind = self.query.get("uploadType")
        if kind == "resumable":
            metadata = json.loads(self.body or b"{}")
            name = self.query.get("name") or metadata["name"]
            self.store.check(bucket, name, condition)
            upload = uuid.uuid4().hex
            self.store.sessions[upload] = Session(bucket, name, metadata, condition)
            return self.send(200, headers=[("Location", f"{self.base_url}{self.path}&upload_id={upload}")])
        if kind == "multipart":
            metadata, content = self.related()
        else:
            metadata, content = {}, self.body
        name = self.query.get("name") or metadata["name"]
        self.send_json(self.store.create(bucket, name, content, metadata, condition, self.base_url))

    def related(self):
        """The metadata and the content of a multipart/related body; what follows them adds to the metadata."""
        boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
        parts = []
        for part in (b"\r\n" + self.body).split(b"\r\n--" + boundary)[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            parts.append(content)
        metadata, content, *trailers = parts
        metadata = json.loads(metadata)
        for trailer in trailers:
            metadata.update(json.loads(trailer))
        return metadata, content

    def resume(self, bucket):
        session = self.store.sessions.get(self.query.get("upload_id"))
        if session is None:
            raise Refused(404, "No such upload session.")
        if session.object is not None:
            return self.send_json(session.object)
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", self.headers.get("Content-Range", ""))
        if not match:
            raise Refused(400, "Failed to parse Content-Range header.")
        total = None if match[3] == "*" else int(match[3])
        if match[1] is not None:
            first, length = int(match[1]), int(match[2]) + 1 - int(match[1])
            if first != len(session.content):
                raise Refused(400, "Invalid request. The piece does not follow what is stored.")
            if length != len(self.body):
                # The connection was cut: what has come is kept as far as it goes.
                session.content += self.body[: len(self.body) // QUANTUM * QUANTUM]
                raise Refused(400, "Invalid request. The piece is not complete.")
            if total is None and length % QUANTUM:
                raise Refused(400, "Invalid request. A piece must be a multiple of 256 KiB.")
            session.content += self.body
        if total is None or len(session.content) < total:
            stored = len(session.content)
            headers = [("Range", f"bytes=0-{stored - 1}")] if stored else []
            return self.send(308, headers=headers)
        self.complete(session)

    def complete(self, session):
        content = bytes(session.content)
        for name, value in re.findall(r"(crc32c|md5)=([^,\s]+)", self.headers.get("x-goog-hash", "")):
            session.metadata["md5Hash" if name == "md5" else name] = value
        try:
            session.object = self.store.create(
                session.bucket, session.name, content, session.metadata, session.condition, self.base_url
            )
        except Refused:
            del self.store.sessions[self.query["upload_id"]]
            raise
        session.content = bytearray()
        self.send_json(session.object)

    def cancel(self, bucket):
        session = self.store.sessions.get(self.query.get("upload_id"))
        if session is None or session.object is not None:
            raise Refused(404, "No such upload session.")
        del self.store.sessions[self.query["upload_id"]]
        self.send(499)

    def open_sessions(self, bucket):
        """For tests: how many uploads into a bucket are neither ended nor cancelled."""
        sessions = self.store.sessions.values()
        self.send_json({"open": sum(session.bucket == bucket and session.object is None for session in sessions)})


class Body:
    """A request's body that has been read already, for the emulator to read."""

    def __init__(self, body):
        self.body = body

    def read(self, _length):
        return self.body


ROUTES = [
    (r"GET /storage/v1/b/([^/]+)/o", Handler.list),
    (r"GET /storage/v1/b/([^/]+)/o/([^/]+)", Handler.object),
    (r"DELETE /storage/v1/b/([^/]+)/o/([^/]+)", Handler.delete),
    (r"POST /upload/storage/v1/b/([^/]+)/o", Handler.upload),
    (r"PUT /upload/storage/v1/b/([^/]+)/o", Handler.resume),
    (r"DELETE /upload/storage/v1/b/([^/]+)/o", Handler.cancel),
    (r"GET /_test/sessions/([^/]+)", Handler.open_sessions),
    (r"(?:GET|HEAD) /(?!storage/|upload/|download/|batch/|b/|b$|_test/)([^/]+)/(.+)", Handler.media),
]


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    store = Store()
    address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1"
    Server((address, int(sys.argv[1])), lambda *args: Handler(store, *args)).serve_forever()


main()
