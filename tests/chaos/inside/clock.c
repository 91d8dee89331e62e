/* A wall clock that runs ahead or behind: preloaded, it adds what the mapped file says to CLOCK_REALTIME. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset_seconds;

__attribute__((constructor)) static void map_offset(void) {
    const char *path = getenv("SRR_CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset_seconds = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *result) {
    int failed = (int)syscall(SYS_clock_gettime, clock, result);
    if (!failed && clock == CLOCK_REALTIME && offset_seconds) result->tv_sec += *offset_seconds;
    return failed;
}
