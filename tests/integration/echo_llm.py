"""A language model that only repeats: it answers each chat with the prompt it was given.

It speaks enough of the OpenAI chat API, streams included, for the SDK's adapters.  What a
test then finds in an answer is exactly what memory has put into the prompt.  Run as a
program it prints its base URL and serves until killed.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.path.endswith("/chat/completions"):
            self.reply(404, {"error": {"message": "only chat completions"}})
            return
        prompt = "\n".join(f"{m['role']}: {m['content']}" for m in body["messages"])
        self.server.prompts.append(body["messages"])
        if body.get("stream"):
            self.stream(body["model"], prompt)
        else:
            message = {"role": "assistant", "content": prompt}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self.reply(200, {**self.frame("chat.completion", body["model"]), "choices": [choice], "usage": usage})

    @staticmethod
    def frame(kind, model):
        return {"id": "echo-1", "object": kind, "created": 1, "model": model}

    def reply(self, status, document):
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self, model, text):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        pieces = [text[i : i + 40] for i in range(0, len(text), 40)]
        for delta, reason in [*(({"content": p}, None) for p in pieces), ({}, "stop")]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            event = {**self.frame("chat.completion.chunk", model), "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True


class EchoLlm:
    def __init__(self):
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.prompts = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    @property
    def prompts(self):
        """The message lists received, in order."""
        return self.http.prompts

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


if __name__ == "__main__":
    llm = EchoLlm()
    print(llm.url, flush=True)
    llm.http.serve_forever()
