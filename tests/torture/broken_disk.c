/* For programs started with LD_PRELOAD: while the first byte of the file $BROKEN is not 0, whatever
   would change something below $BELOW is answered EIO. Reading goes on, and what is open stays so. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

static volatile const char *broken;

static int below(const char *path)
{
    const char *folder = getenv("BELOW");
    if (!broken && getenv("BROKEN")) {
        static int (*next)(const char *, int, ...);
        if (!next)
            next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
        int file = next(getenv("BROKEN"), O_RDONLY);
        void *seen = mmap(0, 1, PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (seen == MAP_FAILED)
            abort();
        broken = seen;
    }
    return broken && *broken && folder && path && !strncmp(path, folder, strlen(folder));
}

static int below_open(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size < 0 ? 0 : size] = 0;
    return below(path);
}

#define CALL(type, name, is_below, declared, passed)                                               \
    type name declared                                                                             \
    {                                                                                              \
        static type (*next) declared;                                                              \
        if (!next)                                                                                 \
            next = (type(*) declared)dlsym(RTLD_NEXT, #name);                                      \
        if (is_below) {                                                                            \
            errno = EIO;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
        return next passed;                                                                        \
    }
#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        static int (*next)(const char *, int, ...);                                                \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = va_arg(rest, mode_t);                                                        \
        va_end(rest);                                                                              \
        if (!next)                                                                                 \
            next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                       \
        if (flags & (O_WRONLY | O_RDWR | O_CREAT) && below(path)) {                                \
            errno = EIO;                                                                           \
            return -1;                                                                             \
        }                                                                                          \
        return next(path, flags, mode);                                                            \
    }

OPEN(open)
OPEN(open64)
CALL(ssize_t, write, below_open(f), (int f, const void *from, size_t n), (f, from, n))
CALL(ssize_t, pwrite, below_open(f), (int f, const void *from, size_t n, off_t at), (f, from, n, at))
CALL(ssize_t, pwrite64, below_open(f), (int f, const void *from, size_t n, off64_t at), (f, from, n, at))
CALL(int, fsync, below_open(f), (int f), (f))
CALL(int, fdatasync, below_open(f), (int f), (f))
CALL(int, ftruncate, below_open(f), (int f, off_t n), (f, n))
CALL(int, ftruncate64, below_open(f), (int f, off64_t n), (f, n))
CALL(int, fallocate, below_open(f), (int f, int mode, off_t at, off_t n), (f, mode, at, n))
CALL(int, fallocate64, below_open(f), (int f, int mode, off64_t at, off64_t n), (f, mode, at, n))
CALL(int, posix_fallocate64, below_open(f), (int f, off64_t at, off64_t n), (f, at, n))
CALL(int, rename, below(path), (const char *path, const char *to), (path, to))
CALL(int, unlink, below(path), (const char *path), (path))
CALL(int, mkdir, below(path), (const char *path, mode_t mode), (path, mode))
