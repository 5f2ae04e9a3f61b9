/* A disk that a test makes fail, for programs started with LD_PRELOAD: what writes or syncs a file
   under $DISK is answered with the error number in the file $FAILS; 0: the disk is well. What is
   open stays open, and the disk is well again when the test says so, as no mounted one is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static const volatile long long *fails;
static char disk[4096];
static size_t length;

__attribute__((constructor)) static void look(void)
{
    const char *path = getenv("FAILS"), *under = getenv("DISK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *seen = file < 0 ? MAP_FAILED : mmap(0, sizeof *fails, PROT_READ, MAP_SHARED, file, 0);
    if (seen == MAP_FAILED || !under)
        abort();
    length = snprintf(disk, sizeof disk, "%s/", under);
    close(file);
    fails = seen;
}

static int of_path(const char *path)
{
    return fails && *fails && path && !strncmp(path, disk, length);
}

static int of_handle(int handle)
{
    char name[64], path[4096];
    ssize_t size;
    if (!fails || !*fails)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", handle);
    size = readlink(name, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return of_path(path);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define HANDLE(type, name, arguments, call)                                                        \
    type name arguments                                                                            \
    {                                                                                              \
        if (of_handle(handle)) {                                                                   \
            errno = *fails;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        return NEXT(name) call;                                                                    \
    }

HANDLE(ssize_t, write, (int handle, const void *from, size_t size), (handle, from, size))
HANDLE(ssize_t, pwrite, (int handle, const void *from, size_t size, off_t at), (handle, from, size, at))
HANDLE(ssize_t, pwrite64, (int handle, const void *from, size_t size, off64_t at),
       (handle, from, size, at))
HANDLE(int, fsync, (int handle), (handle))
HANDLE(int, fdatasync, (int handle), (handle))
HANDLE(int, ftruncate, (int handle, off_t size), (handle, size))
HANDLE(int, ftruncate64, (int handle, off64_t size), (handle, size))

#define PATH(name, arguments, call)                                                                \
    int name arguments                                                                             \
    {                                                                                              \
        if (of_path(path)) {                                                                       \
            errno = *fails;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        return NEXT(name) call;                                                                    \
    }

PATH(rename, (const char *path, const char *to), (path, to))
PATH(unlink, (const char *path), (path))
PATH(mkdir, (const char *path, mode_t mode), (path, mode))
PATH(truncate, (const char *path, off_t size), (path, size))

static int opened(int (*next)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) && of_path(path)) {
        errno = *fails;
        return -1;
    }
    return next(path, flags, mode);
}

#define OPEN(name)                                                                                 \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list rest;                                                                              \
        mode_t mode;                                                                               \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, int);                                                                  \
        va_end(rest);                                                                              \
        return opened(NEXT(name), path, flags, mode);                                              \
    }

OPEN(open)
OPEN(open64)
