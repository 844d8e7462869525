#!/usr/bin/env python3
"""What one request costs a server: system calls (strace -c), user-space
instructions (callgrind, difference of two run lengths), user and system CPU time.

  ./cost.sh [-w echo|line|http|ws] [PEER...]
"""
import json, os, re, subprocess, sys, tempfile, time, shutil
import servers
from servers import LG, LG_CORE, Server, Unsupported

ARGS = {
    'echo': ('echo', ['echo', '-c', '64', '-s', '64']),
    'line': ('line', ['line', '-c', '64', '-s', '32']),
    'http': ('http', ['http', '-c', '64']),
    'ws': ('ws', ['ws', '-c', '64', '-s', '64']),
}


class Wrapped(Server):
    prefix = []

    def __init__(self, *a):
        real = subprocess.Popen
        pre = self.prefix

        def popen(cmd, **kw):
            if cmd[0] == 'taskset' and 'probe' not in cmd:
                cmd = cmd[:3] + pre + cmd[3:]
            return real(cmd, **kw)

        servers.subprocess.Popen = popen
        try:
            super().__init__(*a)
        finally:
            servers.subprocess.Popen = real


def load(srv, args, n, timeout=100):
    cmd = ['taskset', '-c', LG_CORE, LG] + args + ['-n', str(n)]
    if srv.preamble:
        cmd += ['-H', srv.preamble]
    p = subprocess.run(cmd + [srv.addr], capture_output=True, text=True, timeout=timeout)
    if p.returncode:
        raise RuntimeError(p.stderr[-200:])
    return json.loads(p.stdout)['ops']


def start(prefix, peer, w, tmp):
    c = type('W', (Wrapped,), {'prefix': prefix})
    return c(peer, ARGS[w][0], 0, w, tmp)


def leaf(pid):
    """the traced or real server process below the wrapper"""
    return servers.tree(pid)


def stop_inner(s):
    """terminate the processes below strace or valgrind first, so that it prints its summary"""
    import signal

    for p in reversed(servers.tree(s.p.pid)):
        if p != s.p.pid or len(servers.tree(s.p.pid)) == 1:
            try:
                os.kill(p, signal.SIGTERM)
            except OSError:
                pass
    try:
        s.p.wait(5)
    except subprocess.TimeoutExpired:
        pass
    s.stop()


def syscalls(peer, w, tmp):
    f = os.path.join(tmp, 'strace')
    s = start(['strace', '-f', '-c', '-o', f], peer, w, tmp)
    try:
        n = load(s, ARGS[w][1], 30000)
    finally:
        stop_inner(s)
    calls = {}
    for l in open(f):
        x = l.split()
        if len(x) >= 5 and re.match(r'^[\d.]+$', x[0]) and x[-1] != 'total':
            calls[x[-1]] = int(x[3])
    top = sorted(((v, k) for k, v in calls.items() if v > n / 200), reverse=True)
    return sum(v for v, k in top) / n, ', '.join('%s %.2f' % (k, v / n) for v, k in top[:6])


def instructions(peer, w, tmp):
    got = []
    for n in (3000, 13000):
        s = start(
            [
                'valgrind',
                '--tool=callgrind',
                '--callgrind-out-file=/dev/null',
                '--trace-children=yes',
                '--trace-children-skip=/usr/bin/dirname,*/dirname,*/mktemp,*/cat,*/sed',
            ],
            peer,
            w,
            tmp,
        )
        try:
            load(s, ARGS[w][1], n)
        finally:
            stop_inner(s) if False else None
            import signal

            for p in servers.tree(s.p.pid):
                try:
                    os.kill(p, signal.SIGTERM)
                except OSError:
                    pass
            try:
                s.p.wait(10)
            except subprocess.TimeoutExpired:
                pass
        txt = open(os.path.join(tmp, peer + '.log')).read()
        s.stop()
        v = [int(x) for x in re.findall(r'Collected : (\d+)', txt)]
        if not v:
            return None
        got.append((n, max(v)))
    return (got[1][1] - got[0][1]) / (got[1][0] - got[0][0])


def times(peer, w, tmp):
    s = Server(peer, ARGS[w][0], 0, w, tmp)
    try:
        load(s, ARGS[w][1], 50000)
        best = None
        for _ in range(6):

            def ut():
                u = k = 0
                for p in servers.tree(s.p.pid):
                    x = open('/proc/%d/stat' % p).read().rsplit(')', 1)[1].split()
                    u += int(x[11])
                    k += int(x[12])
                return u, k

            a = ut()
            n = load(s, ARGS[w][1], 100000)
            b = ut()
            t = os.sysconf('SC_CLK_TCK')
            r = ((b[0] - a[0]) / t / n * 1e6, (b[1] - a[1]) / t / n * 1e6)
            if best is None or sum(r) < sum(best):
                best = r
        return best
    finally:
        s.stop()


def main():
    a = sys.argv[1:]
    w = 'echo'
    if a[:1] == ['-w']:
        w, a = a[1], a[2:]
    peers = a or [
        'c-epoll',
        'c-uring',
        'c-libuv',
        'luv',
        'luv-co',
        'cqueues',
        'copas',
        'eco',
        'nginx-lua',
        'node',
        'go',
        'python-asyncio',
        'python-uvloop',
        'neap',
    ]
    tmp = tempfile.mkdtemp(prefix='bench.')
    print(
        '| peer | syscalls/req | which | user instr/req | user us | system us |\n|---|---:|---|---:|---:|---:|'
    )
    for p in peers:
        try:
            sc, which = syscalls(p, w, tmp)
        except Unsupported:
            continue
        except Exception as e:
            sc, which = None, str(e)[:80]
        ins = None
        if p not in ('node', 'go', 'nginx', 'c-uring'):
            try:
                ins = instructions(p, w, tmp)
            except Exception as e:
                print(p, 'callgrind:', str(e)[:200], file=sys.stderr)
        try:
            u, k = times(p, w, tmp)
        except Exception as e:
            u = k = 0
        print(
            '| %s | %s | %s | %s | %.2f | %.2f |'
            % (p, '%.2f' % sc if sc else '-', which, '%.0f' % ins if ins else '-', u, k),
            flush=True,
        )
    shutil.rmtree(tmp, ignore_errors=True)


if __name__ == '__main__':
    main()
