"""moto's server, in which one conditional write follows the other.

moto looks whether an object is there and stores the new one in two steps, and another thread may come between them: of
16 writers at once two were sometimes told that theirs was the first. The object stores that it stands for are atomic.
"""

import io
import sys
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

app = DomainDispatcherApplication(create_backend_app)
one_at_a_time = threading.Lock()


def serve(environ, start_response):
    if "HTTP_IF_NONE_MATCH" not in environ and "HTTP_IF_MATCH" not in environ:
        return app(environ, start_response)
    # Whoever sends slowly holds nobody up.
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    with one_at_a_time:
        return app(environ, start_response)


run_simple("127.0.0.1", int(sys.argv[1]), serve, threaded=True)
