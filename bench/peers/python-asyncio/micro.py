# asyncio tasks.  micro.py TEST; UVLOOP=1 for uvloop
import asyncio, gc, os, random, resource, sys, time

test, D, N = sys.argv[1], float(os.environ.get('D', 1.5)), int(os.environ.get('N', 100000))
now = time.perf_counter


def rss():
    return int(open('/proc/self/statm').read().split()[1]) * 4096


def out(fmt, *a):
    print(('{"test":"%s",' % test) + fmt % a + '}', flush=True)


async def spawn():
    n, t0 = 0, now()

    async def body():
        pass

    while now() - t0 < D:
        for t in [asyncio.create_task(body()) for _ in range(1000)]:
            await t
        n += 1000
    out('"ops_s":%.0f', n / (now() - t0))


async def switch():
    n, stop, t0 = 0, False, now()

    async def body():
        nonlocal n, stop
        while not stop:
            n += 1
            if n % 1024 == 0 and now() - t0 > D:
                stop = True
            await asyncio.sleep(0)

    await asyncio.gather(*[body() for _ in range(100)])
    out('"ops_s":%.0f', n / (now() - t0))


async def timer():
    n, t0, loop = 0, now(), asyncio.get_running_loop()
    while now() - t0 < D:
        for _ in range(1000):
            loop.call_later(10, print).cancel()
        n += 1000
        await asyncio.sleep(0)
    out('"ops_s":%.0f', n / (now() - t0))


async def process():
    n, t0 = 0, now()
    while now() - t0 < D:
        p = await asyncio.create_subprocess_exec('/bin/true')
        assert await p.wait() == 0
        n += 1
    out('"ops_s":%.0f', n / (now() - t0))


async def sleepers():
    n = 0

    async def body():
        nonlocal n
        while True:
            await asyncio.sleep(0.5 + random.random())
            n += 1

    ts = [asyncio.create_task(body()) for _ in range(N)]
    await asyncio.sleep(1.6)
    n0, t0, c0 = n, now(), time.process_time()
    await asyncio.sleep(2)
    dn, dt, dc = n - n0, now() - t0, time.process_time() - c0
    out(
        '"ops_s":%.0f,"ideal":%d,"cpu_us_op":%.3f,"capacity_s":%.0f,"util":%.2f',
        dn / dt,
        N,
        dc * 1e6 / max(dn, 1),
        dn / dc,
        dc / dt,
    )
    os._exit(0)


async def mem():
    gc.collect()
    r0 = rss()
    ts = [asyncio.create_task(asyncio.sleep(600)) for _ in range(N)]
    await asyncio.sleep(0.5)
    gc.collect()
    out('"bytes":%.0f', (rss() - r0) / N)
    os._exit(0)


async def pingpong():
    a, b, n, t0 = asyncio.Queue(1), asyncio.Queue(1), 0, now()

    async def other():
        while True:
            await b.put(await a.get())

    t = asyncio.create_task(other())
    while n % 256 or now() - t0 < D:
        await a.put(n)
        await b.get()
        n += 1
    out('"ops_s":%.0f', n / (now() - t0))
    os._exit(0)


f = {
    'spawn': spawn,
    'switch': switch,
    'timer': timer,
    'sleepers': sleepers,
    'mem': mem,
    'pingpong': pingpong,
    'process': process,
}.get(test)
if not f:
    sys.exit(77)
if os.environ.get('UVLOOP'):
    import uvloop

    uvloop.install()
asyncio.run(f())
