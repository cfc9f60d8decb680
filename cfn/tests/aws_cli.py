"""The AWS CLI, loaded once for all calls, as loading it takes longer than what it is called for: `serve SOCKET` loads it, `call SOCKET WORDS…` lets a fork
of that process carry out the words with the caller's folder, environment and standard streams."""

import json
import os
import signal
import socket
import sys
import time


def serve(path):
    from awscli.clidriver import create_clidriver

    # Waiters look each 30 seconds: here nothing takes so long.
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, 0.2))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    driver = create_clidriver()
    for service in ("cloudformation", "rds", "s3", "sqs"):
        driver.session.get_service_model(service)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(8)
        while True:
            caller, _ = server.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                carry_out(caller, driver)
            caller.close()


def carry_out(caller, driver):
    """One call, in a process of its own, which ends with it."""
    status = 255
    try:
        message, streams, _, _ = socket.recv_fds(caller, 1 << 20, 3)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        call = json.loads(message)
        os.environ.clear()
        os.environ.update(call["environment"])
        os.chdir(call["folder"])
        status = driver.main(call["words"])
    except SystemExit as end:
        status = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        caller.send(bytes([status or 0]))
        os._exit(0)


def call(path, words):
    message = json.dumps({"words": words, "environment": dict(os.environ), "folder": os.getcwd()}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [message], [0, 1, 2])
        return (server.recv(1) or b"\xff")[0]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(call(sys.argv[2], sys.argv[3:]))
