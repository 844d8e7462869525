"""The table of workloads, and the peers in the order of the reports.  Ratios are to REF, those of
in-process rows to MREF."""

REF, MREF = 'c-epoll', 'c-lua'
PEERS = [
    'c-epoll',
    'c-uring',
    'c-libuv',
    'c-lua',
    'luv',
    'luv-co',
    'cqueues',
    'lua-http',
    'copas',
    'eco',
    'nginx',
    'nginx-lua',
    'socat',
    'node',
    'go',
    'python-asyncio',
    'python-uvloop',
    'redis',
    'neap',
]

# What `make bench` runs: the rows of docs/bench.svg, and the peers a user would pick instead.
HEADLINE = [
    'echo-1',
    'echo',
    'echo-p16',
    'line',
    'line-p16',
    'resp-p16',
    'connect',
    'stream',
    'idle',
    'micro-switch',
    'micro-spawn',
]
HEADLINE_PEERS = [
    'c-epoll',
    'c-lua',
    'luv',
    'luv-co',
    'cqueues',
    'nginx-lua',
    'node',
    'go',
    'python-uvloop',
    'redis',
    'neap',
]

# name: (server mode, load generator arguments, unix socket?, unit, what)
W = {
    'echo-1': (
        'echo',
        'echo -c 1 -s 64',
        0,
        'req',
        '1 connection, 64 B, depth 1: round trip latency',
    ),
    'echo': ('echo', 'echo -c 64 -s 64', 0, 'req', '64 connections, 64 B, depth 1'),
    'echo-p16': ('echo', 'echo -c 64 -s 64 -p 16', 0, 'req', '64 connections, 64 B, depth 16'),
    'echo-1k': ('echo', 'echo -c 1000 -s 64', 0, 'req', '1000 connections, 64 B, depth 1'),
    'echo-16k': ('echo', 'echo -c 16 -s 16384', 0, 'req', '16 connections, 16 KiB, depth 1'),
    'echo-unix': ('echo', 'echo -c 64 -s 64', 1, 'req', 'AF_UNIX, 64 connections, 64 B, depth 1'),
    'line': (
        'line',
        'line -c 64 -s 32',
        0,
        'line',
        'upper-case each line, 64 connections, 32 B, depth 1',
    ),
    'line-p16': ('line', 'line -c 64 -s 32 -p 16', 0, 'line', 'upper-case each line, depth 16'),
    'http': (
        'http',
        'http -c 64',
        0,
        'req',
        'HTTP/1.1 keep-alive, 64 connections, Host header only',
    ),
    'http-hdr': (
        'http',
        'http -c 64 -s 1',
        0,
        'req',
        'HTTP/1.1 keep-alive, 64 connections, headers of a browser (9 headers, 500 B)',
    ),
    'http-wrk': (
        'http',
        'wrk -c 64',
        0,
        'req',
        'the same as http, driven by wrk -t1 -c64 (cross-check)',
    ),
    'connect': (
        'echo',
        'connect -c 64 -s 64',
        0,
        'conn',
        'connect, 64 B echo, close; 64 at a time',
    ),
    'connect-unix': ('echo', 'connect -c 64 -s 64', 1, 'conn', 'AF_UNIX connect, 64 B echo, close'),
    'idle': (
        'echo',
        'idle -i 10000 -c 10 -s 64',
        0,
        'B/conn',
        '10 000 idle connections after one echo each, and 10 active ones before and among them',
    ),
    'c100k': (
        'echo',
        'idle -i {idle} -c 10 -s 64',
        0,
        'B/conn',
        '100 000 idle connections from 32 addresses after one echo each (fewer if the limit of open '
        'files cannot be raised), and 10 active ones',
    ),
    'workers': (
        'burn',
        'echo -c 16 -s 64',
        0,
        'x',
        'a handler that computes: requests per wall second of two worker processes against one',
    ),
    'stream': ('sink', 'stream -c 4 -s 131072', 0, 'MB', 'bulk into the server, 4 connections'),
    'stream-unix': ('sink', 'stream -c 4 -s 131072', 1, 'MB', 'bulk into the server, AF_UNIX'),
    'proxy': (
        'proxy',
        'stream -c 4 -s 131072 -u {up}',
        0,
        'MB',
        'bulk through a TCP proxy, 4 connections',
    ),
    'proxy-small': (
        'proxy',
        'echo -c 64 -s 64 -u {up}',
        0,
        'req',
        '64 B echo through a TCP proxy, 64 connections',
    ),
    'udp': ('udp', 'udp -c 64 -s 64', 0, 'pkt', 'datagram echo, 64 sockets, 64 B'),
    'udp-batch': (
        'udp-batch',
        'udp -c 512 -s 64',
        0,
        'pkt',
        'datagram echo, 512 sockets, up to 64 datagrams per system call (recvmmsg, sendmmsg)',
    ),
    'udp-batch-p16': (
        'udp-batch',
        'udp -c 64 -s 64 -p 16',
        0,
        'pkt',
        'the same, 64 sockets with 16 datagrams under way each, which UDP_SEGMENT can answer at once',
    ),
    'resp': ('resp', 'resp -c 64 -s 64', 0, 'GET', 'RESP GET of 64 B values, 64 connections'),
    'resp-p16': ('resp', 'resp -c 64 -s 64 -p 16', 0, 'GET', 'RESP GET, depth 16'),
    'tls-hs': (
        'tls',
        'tlshs -c 16',
        0,
        'hs',
        'full TLS 1.3 handshake (X25519, P-256 certificate) and one request',
    ),
    'tls-bulk': ('tls', 'tlsbulk -c 4', 0, 'MB', 'TLS download, AES-128-GCM, 4 connections'),
    'fdrecv': ('fdrecv', 'fdsend', 1, 'fd', 'receive SCM_RIGHTS messages and close the descriptor'),
    'fdsend': ('fdsend', 'fdrecv', 1, 'fd', 'send SCM_RIGHTS messages'),
    'fdpair': ('fdpair', None, 0, 'fd/s', 'the runtime to itself over its own IPC (node)'),
}
for t, u, what in (
    ('spawn', 'tasks/s', 'start a task that ends at once'),
    ('switch', 'yields/s', '100 tasks yield to the scheduler in turn'),
    ('timer', 'timers/s', 'create and cancel a timer'),
    (
        'sleepers',
        'wake-ups/CPU s',
        '100 000 tasks sleep 0.5-1.5 s again and again: wake-ups per CPU second',
    ),
    ('mem', 'B/task', 'resident bytes per sleeping task, 100 000 of them'),
    ('stop', 'us', 'longest stop of the collector among 10 000 sleeping tasks (CPU time)'),
    ('pingpong', 'round trips/s', 'two tasks, two one slot channels'),
    ('process', 'children/s', 'start /bin/true and wait for it, one after another (c-lua: posix_spawn)'),
):
    W['micro-' + t] = ('micro', t, 0, u, what)
IDLE = {'idle', 'c100k'}  # memory, and latency among idle connections
LOWER = IDLE | {'micro-mem', 'micro-stop'}
