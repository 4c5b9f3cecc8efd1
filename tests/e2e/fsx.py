"""Random operations on the data of one file, each read back and held against a copy in memory."""

import mmap
import os
import random

from syscalls import (FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE, direct_buffer, fallocate,
                      opened, read_file)

MAX_SIZE = 260 * 4096
EDGES = [0, 1, 3583, 3584, 3585, 4096, 8192, 112 * 4096, 240 * 4096, MAX_SIZE - 1]


class Mismatch(AssertionError):
    pass


class Runner:
    def __init__(self, path, seed):
        self.path = path
        self.seed = seed
        self.model = bytearray()
        self.log = []
        with opened(path, os.O_CREAT | os.O_RDWR):
            pass

    def run(self, leg, steps):
        """Returns the model afterwards: the caller may run this in a child."""
        self.r = random.Random(self.seed * 1000 + leg)
        self.fd = os.open(self.path, os.O_RDWR)
        ops = [self.read, self.read, self.write, self.write, self.write, self.append, self.mapread, self.mapwrite,
               self.truncate, self.punch, self.zero, self.allocate, self.sync, self.copy, self.direct_read,
               self.direct_write, self.forget]
        try:
            for step in range(steps):
                op = self.r.choice(ops)
                self.log.append((leg, step, op.__name__))
                op()
                self.size_is_right()
                if step % 50 == 49:
                    self.check(0, len(self.model), os.pread(self.fd, MAX_SIZE + 1, 0))
        finally:
            os.close(self.fd)
        return self.model

    # ---- checks ----

    def fail(self, what):
        raise Mismatch(f"seed {self.seed} (LATCHFS_E2E_SEED={self.seed}): {what}; last operations:\n"
                       + "\n".join(f"  {entry}" for entry in self.log[-30:]))

    def note(self, **numbers):
        self.log[-1] += (numbers,)

    def size_is_right(self):
        size = os.fstat(self.fd).st_size
        if size != len(self.model):
            self.fail(f"size {size}, expected {len(self.model)}")

    def check(self, at, end, got):
        want = bytes(self.model[at:end])
        if got == want:
            return
        n = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        self.fail(f"{len(got)} bytes at {at} (expected {len(want)}) differ from {at + n} on: "
                  f"{got[n:n + 8].hex()} instead of {want[n:n + 8].hex()}")

    def check_whole(self, when):
        self.log.append((when,))
        self.check(0, len(self.model), read_file(self.path))

    # ---- ranges ----

    def place(self, limit=MAX_SIZE):
        return min(limit, self.r.choice([self.r.choice(EDGES), self.r.randrange(limit + 1)]))

    def range_in(self, limit=MAX_SIZE):
        at = self.place(limit)
        length = self.r.choice([1, 2, 100, 4096, self.r.randrange(1, 20000), self.r.randrange(1, 300000)])
        end = min(limit, at + length)
        self.note(at=at, end=end)
        return at, end

    def put(self, at, data):
        if at > len(self.model):
            self.model += bytes(at - len(self.model))
        self.model[at:at + len(data)] = data

    # ---- operations ----

    def read(self):
        at, end = self.range_in()
        self.check(at, end, os.pread(self.fd, end - at, at))

    def write(self):
        at, end = self.range_in()
        data = self.r.randbytes(end - at)
        done = os.pwrite(self.fd, data, at)
        if done != len(data):
            self.fail(f"short write: {done} of {len(data)}")
        if data:
            self.put(at, data)

    def append(self):
        data = self.r.randbytes(self.r.randrange(1, 9000))
        if len(self.model) + len(data) > MAX_SIZE:
            return
        with opened(self.path, os.O_WRONLY | os.O_APPEND) as fd:
            os.write(fd, data)
        self.model += data

    def mapping(self, change):
        if not self.model:
            return
        at, end = self.range_in(len(self.model))
        if at == end:
            return
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if change else 0)
        with mmap.mmap(self.fd, len(self.model), prot=prot) as m:
            if not change:
                self.check(at, end, m[at:end])
                return
            data = self.r.randbytes(end - at)
            m[at:end] = data
            self.model[at:end] = data
            if self.r.random() < 0.3:
                m.flush()

    def mapread(self):
        self.mapping(False)

    def mapwrite(self):
        self.mapping(True)

    def truncate(self):
        size = self.place()
        self.note(size=size)
        os.ftruncate(self.fd, size)
        del self.model[size:]
        self.model += bytes(size - len(self.model))

    def blank(self, at, end):
        end = min(end, len(self.model))
        if at < end:
            self.model[at:end] = bytes(end - at)

    def punch(self):
        at, end = self.range_in()
        if at < end:
            fallocate(self.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, end - at)
            self.blank(at, end)

    def zero(self):
        at, end = self.range_in()
        keep = self.r.random() < 0.5
        if at < end:
            fallocate(self.fd, FALLOC_FL_ZERO_RANGE | (FALLOC_FL_KEEP_SIZE if keep else 0), at, end - at)
            if not keep and end > len(self.model):
                self.model += bytes(end - len(self.model))
            self.blank(at, end)

    def allocate(self):
        at, end = self.range_in()
        keep = self.r.random() < 0.5
        if at < end:
            fallocate(self.fd, FALLOC_FL_KEEP_SIZE if keep else 0, at, end - at)
            if not keep and end > len(self.model):
                self.model += bytes(end - len(self.model))

    def copy(self):
        src, end = self.range_in(len(self.model))
        to = self.place()
        length = min(end - src, MAX_SIZE - to)
        if length <= 0 or abs(to - src) < length:
            return
        self.note(to=to, length=length)
        done = 0
        while done < length:
            n = os.copy_file_range(self.fd, self.fd, length - done, src + done, to + done)
            if n <= 0:
                self.fail(f"copied {done} of {length}")
            done += n
        self.put(to, bytes(self.model[src:src + length]))

    def direct(self, change):
        at = self.place(MAX_SIZE - 4096) // 4096 * 4096
        size = min(self.r.choice([1, 2, 50]) * 4096, MAX_SIZE - at)
        self.note(at=at, size=size)
        with opened(self.path, os.O_RDWR | os.O_DIRECT) as fd:
            if change:
                data = self.r.randbytes(size)
                os.pwritev(fd, [direct_buffer(data)], at)
                self.put(at, data)
            else:
                into = direct_buffer(size)
                n = os.preadv(fd, [into], at)
                self.check(at, at + size, into[:n])

    def direct_read(self):
        self.direct(False)

    def direct_write(self):
        self.direct(True)

    def sync(self):
        self.r.choice([os.fsync, os.fdatasync])(self.fd)

    def forget(self):
        """Clean pages leave the cache; the handle is opened anew."""
        os.fsync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)
