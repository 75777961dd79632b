/* A disk that forgets: an LD_PRELOAD shim that remembers what a power cut would undo.
 *
 * Every write to a regular file below POWER_CUT_DIR is done for real. Before it, the bytes that it
 * covers and the file's size go into an undo log, POWER_CUT_LOG/<inode>; when fsync or fdatasync of
 * the file has returned, its log is emptied. The harness kills everybody and plays the logs
 * backwards (power_cut.py): what is left is what the disk had promised to keep.
 *
 * Creation, rename and unlink count at once: a journaling file system keeps them in order, and it
 * is the content that people lose ("rename without fsync" gives an empty file here too). "-shm"
 * is shared memory, not data. Writes through mmap, sendfile and copy_file_range are not seen.
 *
 * A log is opened for every record: flock then holds against threads and forked children alike,
 * and closing the log does not drop the POSIX locks that SQLite holds on its own files.
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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, TRUNCATE = 2 };

/* One record: this head, then the old bytes. The log begins with the length of what is whole. */
struct head {
    uint64_t kind;
    uint64_t offset;   /* where the change begins; for TRUNCATE the new size */
    uint64_t length;   /* how many bytes are changed */
    uint64_t old_size; /* the file's size before */
    uint64_t old_length; /* how many old bytes follow */
};

static char directory[PATH_MAX], logs[PATH_MAX];
static size_t directory_length;

#define REAL(name) ({ \
    static __typeof__(&name) real_; \
    if (!real_) { real_ = (__typeof__(&name))dlsym(RTLD_NEXT, #name); } \
    real_; })

__attribute__((constructor)) static void start(void) {
    const char *wanted = getenv("POWER_CUT_DIR"), *log = getenv("POWER_CUT_LOG");
    if (!wanted || !log || !realpath(log, logs)) return;
    if (realpath(wanted, directory)) directory_length = strlen(directory);
}

static void die(const char *what) {
    dprintf(2, "power_cut: %s: %s\n", what, strerror(errno));
    abort(); /* a hole in the undo log would make the test a lie */
}

static int below(const char *path) {
    size_t length = strlen(path);
    if (!directory_length || strncmp(path, directory, directory_length)) return 0;
    if (path[directory_length] != '/') return 0;
    return length < 4 || strcmp(path + length - 4, "-shm");
}

/* Is this a file whose content counts? Fills its status. */
static int watched(int fd, struct stat *status) {
    char link[40], path[PATH_MAX];
    int before = errno;
    if (!directory_length || fstat(fd, status) || !S_ISREG(status->st_mode)) goto no;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) goto no;
    path[length] = 0;
    if (!below(path)) goto no;
    return 1;
no:
    errno = before;
    return 0;
}

static int open_log(const struct stat *status) {
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%llu", logs, (unsigned long long)status->st_ino);
    int log = REAL(open)(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (log < 0) die(path);
    while (flock(log, LOCK_EX))
        if (errno != EINTR) die("flock");
    return log;
}

static void close_log(int log) {
    int before = errno;
    close(log); /* gives the lock back */
    errno = before;
}

static void put(int log, const void *data, size_t length, uint64_t offset) {
    while (length) {
        ssize_t done = REAL(pwrite64)(log, data, length, offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) die("the log cannot be written");
        data = (const char *)data + done, length -= done, offset += done;
    }
}

/* The descriptor may be for writing only: then its file is read by name. */
static void get(int fd, char *data, size_t length, uint64_t offset) {
    int reader = -1;
    while (length) {
        ssize_t done = pread64(reader < 0 ? fd : reader, data, length, offset);
        if (done < 0 && errno == EBADF && reader < 0) {
            char link[40];
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
            reader = REAL(open)(link, O_RDONLY | O_CLOEXEC);
            if (reader < 0) die("old bytes cannot be read");
            continue;
        }
        if (done < 0) die("old bytes cannot be read");
        if (done == 0) break; /* somebody made the file shorter just now */
        data += done, length -= done, offset += done;
    }
    if (reader >= 0) close(reader);
}

static void forget(int log) {
    if (REAL(ftruncate64)(log, 0)) die("the log cannot be emptied");
}

/* Under the log's lock: append what the coming change would destroy. */
static void remember(int log, int fd, uint64_t kind, uint64_t offset, uint64_t length) {
    struct stat status;
    uint64_t whole = sizeof whole;
    if (fstat(fd, &status)) die("fstat");
    uint64_t size = status.st_size, end = kind == TRUNCATE ? size : offset + length;
    if (end > size) end = size;
    struct head head = {kind, offset, length, size, end > offset ? end - offset : 0};
    char *record = calloc(1, sizeof head + head.old_length);
    if (!record) die("calloc");
    memcpy(record, &head, sizeof head);
    get(fd, record + sizeof head, head.old_length, offset);
    if (pread64(log, &whole, sizeof whole, 0) != sizeof whole) whole = sizeof whole;
    put(log, record, sizeof head + head.old_length, whole);
    whole += sizeof head + head.old_length;
    put(log, &whole, sizeof whole, 0); /* a kill before this leaves a tail that nobody reads */
    free(record);
}

static uint64_t place(int fd) {
    struct stat status;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &status) ? 0 : status.st_size;
    return lseek64(fd, 0, SEEK_CUR);
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

#define WRITING(offset, length, call) do { \
    struct stat status; \
    if (!watched(fd, &status)) return call; \
    int log = open_log(&status); \
    remember(log, fd, WRITE, (offset), (length)); \
    ssize_t done = call; \
    close_log(log); \
    return done; } while (0)

ssize_t write(int fd, const void *data, size_t length) {
    WRITING(place(fd), length, REAL(write)(fd, data, length));
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    WRITING(place(fd), total(parts, count), REAL(writev)(fd, parts, count));
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    WRITING(offset, length, REAL(pwrite)(fd, data, length, offset));
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    WRITING(offset, length, REAL(pwrite64)(fd, data, length, offset));
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    WRITING(offset, total(parts, count), REAL(pwritev)(fd, parts, count, offset));
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    WRITING(offset, total(parts, count), REAL(pwritev64)(fd, parts, count, offset));
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    WRITING(offset < 0 ? place(fd) : (uint64_t)offset, total(parts, count),
            REAL(pwritev2)(fd, parts, count, offset, flags));
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    WRITING(offset < 0 ? place(fd) : (uint64_t)offset, total(parts, count),
            REAL(pwritev64v2)(fd, parts, count, offset, flags));
}

#define CUTTING(size, call) do { \
    struct stat status; \
    if (!watched(fd, &status)) return call; \
    int log = open_log(&status); \
    remember(log, fd, TRUNCATE, (size), 0); \
    int done = call; \
    close_log(log); \
    return done; } while (0)

int ftruncate(int fd, off_t size) { CUTTING(size, REAL(ftruncate)(fd, size)); }
int ftruncate64(int fd, off64_t size) { CUTTING(size, REAL(ftruncate64)(fd, size)); }
int posix_fallocate(int fd, off_t offset, off_t length) {
    WRITING(offset, length, REAL(posix_fallocate)(fd, offset, length));
}
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    WRITING(offset, length, REAL(posix_fallocate64)(fd, offset, length));
}

/* The real sync comes first: killed within it, the content counts as lost. */
#define SYNCING(call) do { \
    struct stat status; \
    if (!watched(fd, &status)) return call; \
    int log = open_log(&status); \
    int done = call; \
    if (!done) forget(log); \
    close_log(log); \
    return done; } while (0)

int fsync(int fd) { SYNCING(REAL(fsync)(fd)); }
int fdatasync(int fd) { SYNCING(REAL(fdatasync)(fd)); }

/* A new file may have the inode of a deleted one: it starts with an empty log. An existing one that
 * shall be emptied is opened as it is first, so that its bytes can be remembered. */
static int opened(int fd, int is_new, int flags) {
    struct stat status;
    if (fd < 0 || !watched(fd, &status)) return fd;
    if (is_new) {
        int log = open_log(&status);
        forget(log);
        close_log(log);
    } else if (flags & O_TRUNC) {
        if (ftruncate(fd, 0)) die("ftruncate");
    }
    return fd;
}

static int is_absent(int at, const char *path) {
    struct stat status;
    int before = errno, absent = directory_length && fstatat(at, path, &status, 0) && errno == ENOENT;
    errno = before;
    return absent;
}

static int softened(int at, const char *path, int flags) {
    char real[PATH_MAX], name[PATH_MAX + 32];
    if (!(flags & O_TRUNC) || !directory_length) return flags;
    if (path[0] == '/' || at == AT_FDCWD) snprintf(name, sizeof name, "%s", path);
    else snprintf(name, sizeof name, "/proc/self/fd/%d/%s", at, path);
    int before = errno, inside = realpath(name, real) && below(real);
    errno = before;
    return inside ? flags & ~O_TRUNC : flags;
}

#define OPENING(at, path, call) do { \
    mode_t mode = 0; \
    if (__OPEN_NEEDS_MODE(flags)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    } \
    int is_new = (flags & O_CREAT) && is_absent(at, path); \
    int asked = flags; \
    flags = softened(at, path, flags); \
    return opened(call, is_new, asked); } while (0)

int open(const char *path, int flags, ...) {
    OPENING(AT_FDCWD, path, REAL(open)(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
    OPENING(AT_FDCWD, path, REAL(open64)(path, flags, mode));
}
int openat(int at, const char *path, int flags, ...) {
    OPENING(at, path, REAL(openat)(at, path, flags, mode));
}
int openat64(int at, const char *path, int flags, ...) {
    OPENING(at, path, REAL(openat64)(at, path, flags, mode));
}
int creat(const char *path, mode_t mode) {
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) {
    return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
