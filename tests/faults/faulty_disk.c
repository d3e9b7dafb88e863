/* Preloaded into a process and all that it starts (LD_PRELOAD): lets one call that changes files
 * below FAULTY_FOLDER fail, or the clock differ by FAULTY_CLOCK_SECONDS.
 *
 * FAULTY_CALL: write, fsync, rename, open or mkdir. FAULTY_ERRNO: its error. The call fails while
 * the file FAULTY_FLAG exists; whoever fails first removes it, so one call fails in all.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int below(const char *path) {
    const char *folder = getenv("FAULTY_FOLDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int fails(const char *call, const char *path) {
    const char *wanted = getenv("FAULTY_CALL"), *flag = getenv("FAULTY_FLAG");
    if (!wanted || !flag || strcmp(wanted, call) != 0 || !below(path)) return 0;
    if (unlink(flag) != 0) return 0;
    errno = atoi(getenv("FAULTY_ERRNO"));
    return 1;
}

static int fails_fd(const char *call, int descriptor) {
    char link[64], path[4096];
    const char *wanted = getenv("FAULTY_CALL");
    if (!wanted || strcmp(wanted, call) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    if (fails_fd("write", descriptor)) return -1;
    return NEXT(write)(descriptor, data, size);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
    if (fails_fd("write", descriptor)) return -1;
    return NEXT(pwrite64)(descriptor, data, size, offset);
}

int fsync(int descriptor) {
    if (fails_fd("fsync", descriptor)) return -1;
    return NEXT(fsync)(descriptor);
}

int rename(const char *from, const char *to) {
    if (fails("rename", to)) return -1;
    return NEXT(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    if (fails("rename", to)) return -1;
    return NEXT(renameat)(from_folder, from, to_folder, to);
}

int mkdir(const char *path, mode_t mode) {
    if (fails("mkdir", path)) return -1;
    return NEXT(mkdir)(path, mode);
}

static int opened(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if ((flags & O_CREAT) && fails("open", path)) return -1;
    return real(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return opened(NEXT(open), path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return opened(NEXT(open64), path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = NEXT(clock_gettime)(clock, now);
    const char *step = getenv("FAULTY_CLOCK_SECONDS");
    if (result == 0 && step && clock == CLOCK_REALTIME) now->tv_sec += atol(step);
    return result;
}
