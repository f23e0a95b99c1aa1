/* Counts a process's changes to files below a folder, and ends or refuses them at one.

   Loaded before libc (LD_PRELOAD); of children nothing is counted. The environment says what
   is to happen before change number SHIM_AT (from 1): SHIM_DO is `kill`, `tear` (half of what is
   written, then a kill), `jump` (the clock, by SHIM_SECONDS), or a number: that errno, from then
   on, for all that takes room on the disk. How many there were is written to SHIM_COUNT at exit. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static atomic_long count;
static long at, seconds;
static int refusal, tears, jumps;
static char root[PATH_MAX], counted[PATH_MAX];

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static void report(void) {
    FILE *file = counted[0] ? fopen(counted, "w") : NULL;
    if (file) { fprintf(file, "%ld", (long)count); fclose(file); }
}

__attribute__((constructor)) static void start(void) {
    char *folder = getenv("SHIM_ROOT"), *act = getenv("SHIM_DO"), *out = getenv("SHIM_COUNT");
    if (!folder || !realpath(folder, root)) return;
    at = getenv("SHIM_AT") ? atol(getenv("SHIM_AT")) : LONG_MAX;
    seconds = getenv("SHIM_SECONDS") ? atol(getenv("SHIM_SECONDS")) : 0;
    tears = act && !strcmp(act, "tear");
    jumps = act && !strcmp(act, "jump");
    refusal = act ? atoi(act) : 0;
    if (out) { snprintf(counted, sizeof counted, "%s", out); atexit(report); }
    unsetenv("LD_PRELOAD");
    unsetenv("SHIM_ROOT");
}

/* Whether a change is refused; a kill does not return. `room`: it takes room on the disk. */
static int change(int room) {
    long number = atomic_fetch_add(&count, 1) + 1;
    if (number < at || jumps) return 0;
    if (refusal) { if (room) errno = refusal; return room; }
    if (number == at && !tears) kill(getpid(), SIGKILL);
    return 0;
}

static int torn(void) { return tears && atomic_load(&count) == at; }

static int below(const char *path) {
    char whole[PATH_MAX];
    if (!root[0] || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole)) return 0;
        return !strncmp(whole, root, strlen(root));
    }
    return !strncmp(path, root, strlen(root));
}

static int inside(int folder, const char *path) {
    char link[64], whole[PATH_MAX];
    if (!root[0]) return 0;
    if (folder == AT_FDCWD || (path && path[0] == '/')) return below(path);
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, whole, sizeof whole - 1);
    if (length < 0) return 0;
    whole[length] = 0;
    return below(whole);
}

static int regular(int file) {
    struct stat info;
    return root[0] && !fstat(file, &info) && S_ISREG(info.st_mode) && inside(file, NULL);
}

ssize_t write(int file, const void *data, size_t length) {
    REAL(write);
    if (regular(file)) {
        if (change(1)) return -1;
        if (torn()) { real(file, data, length / 2); kill(getpid(), SIGKILL); }
    }
    return real(file, data, length);
}

ssize_t pwrite64(int file, const void *data, size_t length, off64_t place) {
    REAL(pwrite64);
    if (regular(file)) {
        if (change(1)) return -1;
        if (torn()) { real(file, data, length / 2, place); kill(getpid(), SIGKILL); }
    }
    return real(file, data, length, place);
}

ssize_t pwrite(int file, const void *data, size_t length, off_t place) {
    return pwrite64(file, data, length, place);
}

ssize_t writev(int file, const struct iovec *parts, int num) {
    REAL(writev);
    if (regular(file)) {
        if (change(1)) return -1;
        if (torn()) { real(file, parts, (num + 1) / 2); kill(getpid(), SIGKILL); }
    }
    return real(file, parts, num);
}

ssize_t sendfile64(int out, int in, off64_t *place, size_t length) {
    static ssize_t (*real)(int, int, off64_t *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "sendfile64");
    if (regular(out) && change(1)) return -1;
    return real(out, in, place, length);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
    REAL(copy_file_range);
    if (regular(out) && change(1)) return -1;
    return real(in, from, out, to, length, flags);
}

int fsync(int file) { REAL(fsync); if (regular(file)) change(0); return real(file); }
int fdatasync(int file) { REAL(fdatasync); if (regular(file)) change(0); return real(file); }

int ftruncate64(int file, off64_t length) {
    REAL(ftruncate64);
    if (regular(file) && change(length > 0)) return -1;
    return real(file, length);
}
int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

#define PATHS(name, room, kinds, names, where) \
    int name kinds { REAL(name); if ((where) && change(room)) return -1; return real names; }

PATHS(rename, 0, (const char *a, const char *b), (a, b), below(b))
PATHS(renameat, 0, (int i, const char *a, int j, const char *b), (i, a, j, b), inside(j, b))
PATHS(renameat2, 0, (int i, const char *a, int j, const char *b, unsigned f), (i, a, j, b, f),
      inside(j, b))
PATHS(unlink, 0, (const char *a), (a), below(a))
PATHS(unlinkat, 0, (int i, const char *a, int f), (i, a, f), inside(i, a))
PATHS(rmdir, 0, (const char *a), (a), below(a))
PATHS(mkdir, 1, (const char *a, mode_t m), (a, m), below(a))
PATHS(mkdirat, 1, (int i, const char *a, mode_t m), (i, a, m), inside(i, a))
PATHS(link, 1, (const char *a, const char *b), (a, b), below(b))
PATHS(symlink, 1, (const char *a, const char *b), (a, b), below(b))

/* A socket that gets a path takes a place in a folder. */
int bind(int file, const struct sockaddr *address, socklen_t length) {
    REAL(bind);
    const char *path = ((const struct sockaddr_un *)address)->sun_path;
    if (address->sa_family == AF_UNIX && path[0] && below(path) && change(1)) return -1;
    return real(file, address, length);
}

#define OPENS(name, before, arguments, where) \
    int name(before const char *path, int flags, ...) { \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
        } \
        REAL(name); \
        if ((flags & (O_CREAT | O_TRUNC)) && (where) && change(1)) return -1; \
        return real(arguments path, flags, mode); \
    }
#define COMMA ,
OPENS(open, , , below(path))
OPENS(open64, , , below(path))
OPENS(openat, int folder COMMA, folder COMMA, inside(folder, path))
OPENS(openat64, int folder COMMA, folder COMMA, inside(folder, path))

int clock_gettime(clockid_t id, struct timespec *now) {
    REAL(clock_gettime);
    int failed = real(id, now);
    if (!failed && jumps && id == CLOCK_REALTIME && atomic_load(&count) >= at) now->tv_sec += seconds;
    return failed;
}
