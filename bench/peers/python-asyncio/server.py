# asyncio with protocols (its fastest API).  server.py MODE ADDR [UPSTREAM]; UVLOOP=1 for uvloop
import asyncio, os, socket, sys

mode, addr = sys.argv[1], sys.argv[2]
upstream = sys.argv[3] if len(sys.argv) > 3 else None


class Base(asyncio.Protocol):
    def connection_made(self, t):
        self.t = t
        s = t.get_extra_info('socket')
        if s is not None and s.family != socket.AF_UNIX:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, e):
        pass


class Echo(Base):
    def data_received(self, d):
        self.t.write(d)


class Sink(Base):
    def data_received(self, d):
        pass


class Line(Base):
    rest = b''

    def data_received(self, d):
        if self.rest:
            d = self.rest + d
        lines = d.split(b'\n')
        self.rest = lines.pop()
        if lines:
            self.t.write(b''.join([l.upper() + b'\n' for l in lines]))


class Http(Base):
    rest = b''

    def data_received(self, d):
        if self.rest:
            d = self.rest + d
        reqs = d.split(b'\r\n\r\n')
        self.rest = reqs.pop()
        for r in reqs:
            head, *lines = r.split(b'\r\n')
            method, target, version = head.split(b' ')
            headers = {}
            for l in lines:
                k, _, v = l.partition(b':')
                headers[k.lower()] = v.strip()
            body = b'Hello, World!\n'
            self.t.write(
                b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s'
                % (len(body), body)
            )


store = {}


class Resp(Base):
    rest = b''

    def data_received(self, d):
        if self.rest:
            d = self.rest + d
        pos, out = 0, []
        while True:
            e = d.find(b'\r\n', pos)
            if e < 0:
                break
            argv, p = [], e + 2
            for _ in range(int(d[pos + 1 : e])):
                e = d.find(b'\r\n', p)
                if e < 0:
                    p = -1
                    break
                n = int(d[p + 1 : e])
                if e + n + 4 > len(d):
                    p = -1
                    break
                argv.append(d[e + 2 : e + 2 + n])
                p = e + n + 4
            if p < 0:
                break
            pos = p
            if argv[0] == b'GET':
                v = store.get(argv[1])
                out.append(b'$-1\r\n' if v is None else b'$%d\r\n%s\r\n' % (len(v), v))
            elif argv[0] == b'SET':
                store[argv[1]] = argv[2]
                out.append(b'+OK\r\n')
            else:
                out.append(b'+PONG\r\n')
        self.rest = d[pos:]
        if out:
            self.t.write(b''.join(out))


class Proxy(Base):  # two of these, each other's peer
    peer = None
    pend = b''

    def connection_made(self, t):
        super().connection_made(t)
        if self.peer is None:
            h, p = upstream.rsplit(':', 1)
            self.peer = Proxy()
            self.peer.peer = self
            t.pause_reading()
            asyncio.ensure_future(
                asyncio.get_running_loop().create_connection(lambda: self.peer, h, int(p))
            )
        else:
            t.write(self.pend)
            self.peer.t.resume_reading()

    def data_received(self, d):
        if hasattr(self.peer, 't'):
            self.peer.t.write(d)
        else:  # 3.11 starts reading in spite of pause_reading() in connection_made()
            self.peer.pend += d

    def pause_writing(self):
        self.peer.t.pause_reading()

    def resume_writing(self):
        self.peer.t.resume_reading()

    def connection_lost(self, e):
        if hasattr(self.peer, 't'):
            self.peer.t.close()


class Tls(Base):
    big = None

    def data_received(self, d):
        if d.startswith(b'GET /big'):
            self.big = bytes(65536)
            self.resume_writing()
        else:
            self.t.write(d)

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False
        self.more()

    def more(self):
        n = 0
        while self.big and not self.paused and n < 8:
            self.t.write(self.big)
            n += 1
        if self.big and not self.paused and not self.t.is_closing():
            asyncio.get_running_loop().call_soon(self.more)

    def connection_lost(self, e):
        self.big = None


class Udp(asyncio.DatagramProtocol):
    def connection_made(self, t):
        self.t = t

    def datagram_received(self, d, a):
        self.t.sendto(d, a)


def fdpass():
    l = socket.socket(socket.AF_UNIX)
    try:
        os.unlink(addr[5:])
    except OSError:
        pass
    l.bind(addr[5:])
    l.listen(16)
    while True:
        c, _ = l.accept()
        try:
            if mode == 'fdsend':
                while True:
                    socket.send_fds(c, [b'F'], [0])
            while True:
                d, fds, _, _ = socket.recv_fds(c, 256, 16)
                if not d:
                    break
                for f in fds:
                    os.close(f)
        except OSError:
            pass
        c.close()


async def websocket():
    try:
        import websockets
    except ImportError:
        os._exit(77)

    async def echo(ws, path=None):
        async for m in ws:
            await ws.send(m)

    h, p = addr.rsplit(':', 1)
    await websockets.serve(echo, h, int(p), backlog=4096, compression=None)


async def main():
    loop = asyncio.get_running_loop()
    if mode == 'udp':
        h, p = addr.rsplit(':', 1)
        await loop.create_datagram_endpoint(Udp, local_addr=(h, int(p)))
    elif mode == 'ws':
        await websocket()
    else:
        proto = {
            'echo': Echo,
            'sink': Sink,
            'line': Line,
            'http': Http,
            'resp': Resp,
            'proxy': Proxy,
            'tls': Tls,
        }.get(mode)
        if proto is None:
            os._exit(77)
        ctx = None
        if mode == 'tls':
            import ssl

            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(os.environ['BENCH_CERT'], os.environ['BENCH_KEY'])
        if addr.startswith('unix:'):
            await loop.create_unix_server(proto, addr[5:], backlog=4096)
        else:
            h, p = addr.rsplit(':', 1)
            await loop.create_server(proto, h, int(p), backlog=4096, ssl=ctx)
    await asyncio.Event().wait()


if mode in ('fdrecv', 'fdsend'):
    if os.environ.get('UVLOOP'):
        sys.exit(77)
    fdpass()
import resource

resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
if os.environ.get('UVLOOP'):
    import uvloop

    uvloop.install()
asyncio.run(main())
