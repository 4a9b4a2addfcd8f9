"""The world's resolver and servers; the argument is the address of every name.

Whoever says a line is told `served`.
"""

import socket
import socketserver
import sys
import threading

ADDRESS = socket.inet_aton(sys.argv[1])


class Query(socketserver.BaseRequestHandler):
    def handle(self):
        query, reply = self.request
        if query[-4:] != b"\0\x01\0\x01":
            reply.sendto(query[:2] + b"\x81\x80\0\x01\0\0\0\0\0\0" + query[12:], self.client_address)
            return
        head = query[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0" + query[12:]
        reply.sendto(head + b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04" + ADDRESS, self.client_address)


class Client(socketserver.StreamRequestHandler):
    def handle(self):
        for _ in self.rfile:
            self.wfile.write(b"served\n")


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


servers = [socketserver.ThreadingUDPServer(("", 53), Query)]
servers += [Server(("", port), Client) for port in (8080, 7001, 7000)]
for server in servers:
    threading.Thread(target=server.serve_forever).start()
