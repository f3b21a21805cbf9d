// Has something befall a program at the n-th write or sync of one file; loaded before the C library by LD_PRELOAD.
//
//   FAULT_FILE   the file, as the kernel names it
//   FAULT_CALL   write or fdatasync
//   FAULT_WHEN   the number of the call, from 1
//   FAULT_WHAT   kill, term, hold (waits before the call, for good, when it has made FAULT_MARK), full (no room from here on)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long calls;

// True when the call is to fail for want of room.
static int befalls(const char *call, int fd) {
    const char *file = getenv("FAULT_FILE"), *which = getenv("FAULT_CALL"), *when = getenv("FAULT_WHEN"),
               *what = getenv("FAULT_WHAT"), *mark = getenv("FAULT_MARK");
    if (!file || !which || !when || !what || strcmp(which, call) != 0) return 0;
    char link[64], name[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    if (strcmp(name, file) != 0) return 0;
    long n = atomic_fetch_add(&calls, 1) + 1, at = atol(when);
    if (strcmp(what, "full") == 0) return n >= at;
    if (n != at) return 0;
    if (strcmp(what, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(what, "term") == 0) kill(getpid(), SIGTERM);
    if (strcmp(what, "hold") == 0) {
        if (mark) close(open(mark, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        for (;;) pause();
    }
    return 0;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = dlsym(RTLD_NEXT, "write");
    if (befalls("write", fd)) {
        errno = ENOSPC;
        return -1;
    }
    return next(fd, bytes, count);
}

int fdatasync(int fd) {
    static int (*next)(int);
    if (!next) next = dlsym(RTLD_NEXT, "fdatasync");
    if (befalls("fdatasync", fd)) {
        errno = ENOSPC;
        return -1;
    }
    return next(fd);
}
