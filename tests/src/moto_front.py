"""moto's S3 server, one request at a time: python3 moto_front.py PORT

moto looks whether an object exists, and writes it, in two steps, and its server answers requests in threads: of two
writers with `If-None-Match: *` both can succeed, and a listing beside a write can be answered by 500. S3 does neither.
So a request waits for its turn, once all of its body has come; a slow client holds nobody up.
"""

import io
import os
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.server import MotoRequestHandler
from werkzeug.serving import run_simple

application = DomainDispatcherApplication(create_backend_app)
turn = threading.Lock()


def one_at_a_time(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    if len(body) < length:
        # The client has gone; half a body must not become an object.
        start_response("400 Bad Request", [("Content-Length", "0")])
        return []
    environ["wsgi.input"] = io.BytesIO(body)
    with turn:
        return [b"".join(application(environ, start_response))]


port = int(sys.argv[1])
os.environ["MOTO_PORT"] = str(port)
run_simple("127.0.0.1", port, one_at_a_time, threaded=True, request_handler=MotoRequestHandler)
