"""The service in a thread of this process, as `digitsum serve` runs it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from digitsum.serving import app
from digitsum.serving.limits import LimitedProtocol


@contextmanager
def serving(model: str = "row", port: int = 0) -> Iterator[str]:
    """Yield the service's address."""
    with app._listen("127.0.0.1", port) as listener:
        config = uvicorn.Config(app.create_app(model), http=LimitedProtocol, ws="none", log_config=None)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
