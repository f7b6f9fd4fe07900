/* Preloaded: notes where a process has mapped memory, a line "address bytes" in $FLIP_MAPS.PID each, for flip.c. With $FLIP_SLOW the
 * threads beside the main one take so many milliseconds for each write to a place of a file. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void note(const void *at, size_t bytes)
{
    char text[256];
    const char *path = getenv("FLIP_MAPS");
    if (!path)
        return;
    snprintf(text, sizeof text, "%s.%d", path, (int)getpid());
    int fd = open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const int n = snprintf(text, sizeof text, "%lx %zu\n", (unsigned long)at, bytes);
    if (fd < 0)
        return;
    if (write(fd, text, (size_t)n) != n)
        abort();
    close(fd);
}

void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    void *p = (void *)syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
    if (!at && fd < 0 && p != MAP_FAILED)
        note(p, bytes);
    return p;
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return mmap64(at, bytes, protection, flags, fd, offset);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off_t at)
{
    const char *slow = getenv("FLIP_SLOW");
    if (slow && syscall(SYS_gettid) != getpid())
        nanosleep(&(struct timespec){ .tv_nsec = strtol(slow, NULL, 10) * 1000000 }, NULL);
    return syscall(SYS_pwrite64, fd, from, n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    return pwrite64(fd, from, n, at);
}
