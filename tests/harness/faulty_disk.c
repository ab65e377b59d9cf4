/*
 * Preloaded into a process under test (LD_PRELOAD): system calls on files below one folder fail
 * on command, as those of a failing, full or read-only disk do.
 *
 * FAULTY_DISK_FOLDER   the folder, without a slash at its end
 * FAULTY_DISK_CONTROL  a file of four 32-bit numbers of the machine's byte order. Three are an errno or
 *                      0: for opening a file to read it, for reading, for writing (and whatever else
 *                      changes the disk). The fourth, if it isn't 0, is a bad place: of reads only those
 *                      fail that say where and cover that byte, of any file. The file is mapped: what is
 *                      written into it holds for the next call.
 *
 * While all is well a call costs the look at one number more. While there is a fault, which file a
 * descriptor is of is asked of /proc, past the functions in here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, READ, WRITE, BAD_PLACE, NUMBERS };

static const char *folder;
static volatile const uint32_t *faults;

__attribute__((constructor)) static void set_up(void) {
    const char *control = getenv("FAULTY_DISK_CONTROL");
    folder = getenv("FAULTY_DISK_FOLDER");
    if (folder == NULL || control == NULL)
        return;
    long fd = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    void *mapped = mmap(NULL, NUMBERS * sizeof(uint32_t), PROT_READ, MAP_SHARED, (int)fd, 0);
    if (fd < 0 || mapped == MAP_FAILED) {
        dprintf(2, "faulty_disk: cannot map %s\n", control);
        _exit(70);
    }
    syscall(SYS_close, (int)fd);
    faults = mapped;
}

static int is_below(const char *path) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int fails(int kind) { return faults != NULL && faults[kind] != 0; }

static int fails_for_path(int kind, const char *path) {
    if (!fails(kind) || path == NULL || !is_below(path))
        return 0;
    errno = (int)faults[kind];
    return errno != 0;
}

static int fails_for_fd(int kind, int fd) {
    char link[64], path[PATH_MAX + 1];
    if (!fails(kind))
        return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails_for_path(kind, path);
}

static int fails_for_read(int fd, off64_t at, size_t n) {
    if (!fails(READ))
        return 0;
    off64_t bad = faults[BAD_PLACE];
    if (bad != 0 && (at < 0 || bad < at || bad >= at + (off64_t)n))
        return 0;
    return fails_for_fd(READ, fd);
}

static size_t length_of(const struct iovec *parts, int n) {
    size_t length = 0;
    while (n-- > 0)
        length += parts[n].iov_len;
    return length;
}

#define REAL(name) ({ \
    static __typeof__(&name) real; \
    if (real == NULL) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
    real; \
})

#define ON_FD(kind, type, name, parameters, arguments) \
    type name parameters { \
        return fails_for_fd(kind, fd) ? -1 : REAL(name) arguments; \
    }

#define READ_AT(at, n, name, parameters, arguments) \
    ssize_t name parameters { \
        return fails_for_read(fd, at, n) ? -1 : REAL(name) arguments; \
    }

#define ON_PATH(kind, type, name, parameters, arguments) \
    type name parameters { \
        return fails_for_path(kind, path) ? -1 : REAL(name) arguments; \
    }

READ_AT(-1, 0, read, (int fd, void *to, size_t n), (fd, to, n))
READ_AT(-1, 0, readv, (int fd, const struct iovec *to, int n), (fd, to, n))
READ_AT(at, n, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
READ_AT(at, n, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
READ_AT(at, length_of(to, n), preadv, (int fd, const struct iovec *to, int n, off_t at), (fd, to, n, at))
READ_AT(at, length_of(to, n), preadv64, (int fd, const struct iovec *to, int n, off64_t at), (fd, to, n, at))
READ_AT(at, length_of(to, n), preadv2, (int fd, const struct iovec *to, int n, off_t at, int how), (fd, to, n, at, how))
READ_AT(at, length_of(to, n), preadv64v2, (int fd, const struct iovec *to, int n, off64_t at, int how), (fd, to, n, at, how))
READ_AT(at ? *at : -1, n, sendfile, (int out, int fd, off_t *at, size_t n), (out, fd, at, n))
READ_AT(at ? *at : -1, n, sendfile64, (int out, int fd, off64_t *at, size_t n), (out, fd, at, n))

ON_FD(WRITE, ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
ON_FD(WRITE, ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
ON_FD(WRITE, ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
ON_FD(WRITE, ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
ON_FD(WRITE, ssize_t, pwritev, (int fd, const struct iovec *from, int n, off_t at), (fd, from, n, at))
ON_FD(WRITE, ssize_t, pwritev64, (int fd, const struct iovec *from, int n, off64_t at), (fd, from, n, at))
ON_FD(WRITE, int, fsync, (int fd), (fd))
ON_FD(WRITE, int, fdatasync, (int fd), (fd))
ON_FD(WRITE, int, ftruncate, (int fd, off_t length), (fd, length))
ON_FD(WRITE, int, ftruncate64, (int fd, off64_t length), (fd, length))

ON_PATH(WRITE, int, rename, (const char *path, const char *to), (path, to))
ON_PATH(WRITE, int, unlink, (const char *path), (path))

/* Of a folder that is there, every disk says so first. */
int mkdir(const char *path, mode_t mode) {
    int is_there = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    return !is_there && fails_for_path(WRITE, path) ? -1 : REAL(mkdir)(path, mode);
}

static int kind_of(int flags) {
    return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0 ? WRITE : OPEN;
}

/* The mode counts only where a file may be made; else what is passed on is ignored. */
#define MODE_OF(flags) ({ \
    va_list more; \
    va_start(more, flags); \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(more, mode_t) : 0; \
    va_end(more); \
    mode; \
})

int open(const char *path, int flags, ...) {
    mode_t mode = MODE_OF(flags);
    return fails_for_path(kind_of(flags), path) ? -1 : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    mode_t mode = MODE_OF(flags);
    return fails_for_path(kind_of(flags), path) ? -1 : REAL(open64)(path, flags, mode);
}

/* Of paths only absolute ones count, from wherever they are told to begin. */
int openat(int at, const char *path, int flags, ...) {
    mode_t mode = MODE_OF(flags);
    return fails_for_path(kind_of(flags), path) ? -1 : REAL(openat)(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    mode_t mode = MODE_OF(flags);
    return fails_for_path(kind_of(flags), path) ? -1 : REAL(openat64)(at, path, flags, mode);
}
