/*
 * What counter.c counts of the program that it is loaded into, in a file that test_work.c maps as well: calls of libc's
 * functions, by name.
 *
 * Seen are calls that the program and its libraries make of libc. Not seen are calls that libc makes within itself, as
 * stdio's writes, the futex behind a contended lock, or the growth of the heap; so test_work.c knows of each function
 * that Forebay and libev import whether it is counted, or why it need not be. Names with two underscores are what
 * fortified builds call.
 */
#ifndef TESTS_COUNTED_H
#define TESTS_COUNTED_H

#include <stdatomic.h>
#include <stdint.h>

#define COUNTER_FILE "FOREBAY_TEST_COUNTER" /* the environment variable that names the file */

#define COUNTER_THREADS "FOREBAY_TEST_COUNTER_THREADS" /* only threads whose names begin so; not set: all */

/*
 * X(name, result, (parameters), (arguments)); up to writev, what moves bytes of a connection. Variadic functions take as
 * many words as the system call may have.
 */
#define COUNTED_WAITS(X)                                                                                               \
	X(epoll_wait, int, (int fd, void *events, int n, int ms), (fd, events, n, ms))                                 \
	X(epoll_pwait, int, (int fd, void *events, int n, int ms, const void *mask), (fd, events, n, ms, mask))        \
	X(epoll_pwait2, int, (int fd, void *events, int n, const void *ts, const void *mask),                          \
	  (fd, events, n, ts, mask))                                                                                   \
	X(poll, int, (void *fds, unsigned long n, int ms), (fds, n, ms))                                               \
	X(__poll_chk, int, (void *fds, unsigned long n, int ms, size_t room), (fds, n, ms, room))                      \
	X(ppoll, int, (void *fds, unsigned long n, const void *ts, const void *mask), (fds, n, ts, mask))              \
	X(select, int, (int n, void *r, void *w, void *e, void *tv), (n, r, w, e, tv))

#define COUNTED_CALLS(X)                                                                                               \
	X(recv, long, (int fd, void *to, size_t n, int flags), (fd, to, n, flags))                                     \
	X(recvfrom, long, (int fd, void *to, size_t n, int flags, void *from, void *len),                              \
	  (fd, to, n, flags, from, len))                                                                               \
	X(__recv_chk, long, (int fd, void *to, size_t n, size_t room, int flags), (fd, to, n, room, flags))            \
	X(__recvfrom_chk, long, (int fd, void *to, size_t n, size_t room, int flags, void *from, void *len),           \
	  (fd, to, n, room, flags, from, len))                                                                         \
	X(recvmsg, long, (int fd, void *message, int flags), (fd, message, flags))                                     \
	X(recvmmsg, int, (int fd, void *messages, unsigned n, int flags, void *ts), (fd, messages, n, flags, ts))      \
	X(readv, long, (int fd, const void *to, int n), (fd, to, n))                                                   \
	X(send, long, (int fd, const void *from, size_t n, int flags), (fd, from, n, flags))                           \
	X(sendto, long, (int fd, const void *from, size_t n, int flags, const void *to, unsigned len),                 \
	  (fd, from, n, flags, to, len))                                                                               \
	X(sendmsg, long, (int fd, const void *message, int flags), (fd, message, flags))                               \
	X(sendmmsg, int, (int fd, void *messages, unsigned n, int flags), (fd, messages, n, flags))                    \
	X(writev, long, (int fd, const void *from, int n), (fd, from, n))                                              \
	X(read, long, (int fd, void *to, size_t n), (fd, to, n))                                                       \
	X(__read_chk, long, (int fd, void *to, size_t n, size_t room), (fd, to, n, room))                              \
	X(pread, long, (int fd, void *to, size_t n, long at), (fd, to, n, at))                                         \
	X(__pread_chk, long, (int fd, void *to, size_t n, long at, size_t room), (fd, to, n, at, room))                \
	X(write, long, (int fd, const void *from, size_t n), (fd, from, n))                                            \
	X(pwrite, long, (int fd, const void *from, size_t n, long at), (fd, from, n, at))                              \
	X(splice, long, (int in, void *at, int out, void *to, size_t n, unsigned flags),                               \
	  (in, at, out, to, n, flags))                                                                                 \
	X(sendfile, long, (int out, int in, void *at, size_t n), (out, in, at, n))                                     \
	X(io_uring_submit_and_wait, int, (void *ring, unsigned n), (ring, n))                                          \
	X(epoll_create, int, (int n), (n))                                                                             \
	X(epoll_create1, int, (int flags), (flags))                                                                    \
	X(epoll_ctl, int, (int epoll, int what, int fd, void *event), (epoll, what, fd, event))                        \
	X(timerfd_create, int, (int clock, int flags), (clock, flags))                                                 \
	X(timerfd_settime, int, (int fd, int flags, const void *to, void *old), (fd, flags, to, old))                  \
	X(eventfd, int, (unsigned value, int flags), (value, flags))                                                   \
	X(signalfd, int, (int fd, const void *mask, int flags), (fd, mask, flags))                                     \
	X(inotify_init, int, (void), ())                                                                               \
	X(inotify_init1, int, (int flags), (flags))                                                                    \
	X(inotify_add_watch, int, (int fd, const char *path, uint32_t mask), (fd, path, mask))                         \
	X(inotify_rm_watch, int, (int fd, int watch), (fd, watch))                                                     \
	X(accept, int, (int fd, void *address, void *len), (fd, address, len))                                         \
	X(accept4, int, (int fd, void *address, void *len, int flags), (fd, address, len, flags))                      \
	X(socket, int, (int domain, int type, int protocol), (domain, type, protocol))                                 \
	X(bind, int, (int fd, const void *address, unsigned len), (fd, address, len))                                  \
	X(connect, int, (int fd, const void *address, unsigned len), (fd, address, len))                               \
	X(listen, int, (int fd, int backlog), (fd, backlog))                                                           \
	X(shutdown, int, (int fd, int how), (fd, how))                                                                 \
	X(close, int, (int fd), (fd))                                                                                  \
	X(dup2, int, (int from, int to), (from, to))                                                                   \
	X(pipe, int, (int *fds), (fds))                                                                                \
	X(pipe2, int, (int *fds, int flags), (fds, flags))                                                             \
	X(setsockopt, int, (int fd, int level, int option, const void *value, unsigned len),                           \
	  (fd, level, option, value, len))                                                                             \
	X(getsockopt, int, (int fd, int level, int option, void *value, void *len), (fd, level, option, value, len))   \
	X(getsockname, int, (int fd, void *address, void *len), (fd, address, len))                                    \
	X(getpeername, int, (int fd, void *address, void *len), (fd, address, len))                                    \
	X(fcntl, int, (int fd, int what, long a), (fd, what, a))                                                       \
	X(ioctl, int, (int fd, unsigned long what, long a), (fd, what, a))                                             \
	X(syscall, long, (long n, long a, long b, long c, long d, long e, long f), (n, a, b, c, d, e, f))              \
	X(getrandom, long, (void *to, size_t n, unsigned flags), (to, n, flags))                                       \
	X(getentropy, int, (void *to, size_t n), (to, n))                                                              \
	X(nanosleep, int, (const void *time, void *left), (time, left))                                                \
	X(clock_nanosleep, int, (int clock, int flags, const void *time, void *left), (clock, flags, time, left))      \
	X(getrusage, int, (int who, void *usage), (who, usage))                                                        \
	X(getpid, int, (void), ())                                                                                     \
	X(getuid, unsigned, (void), ())                                                                                \
	X(geteuid, unsigned, (void), ())                                                                               \
	X(getgid, unsigned, (void), ())                                                                                \
	X(getegid, unsigned, (void), ())                                                                               \
	X(sched_getaffinity, int, (int pid, size_t n, void *set), (pid, n, set))                                       \
	X(sched_yield, int, (void), ())                                                                                \
	X(prctl, int, (int what, long a, long b, long c, long d), (what, a, b, c, d))                                  \
	X(pthread_sigmask, int, (int how, const void *set, void *old), (how, set, old))                                \
	X(sigprocmask, int, (int how, const void *set, void *old), (how, set, old))                                    \
	X(mmap, void *, (void *at, size_t n, int protection, int flags, int fd, long offset),                          \
	  (at, n, protection, flags, fd, offset))                                                                      \
	X(munmap, int, (void *at, size_t n), (at, n))                                                                  \
	X(madvise, int, (void *at, size_t n, int advice), (at, n, advice))                                             \
	X(malloc_trim, int, (size_t keep), (keep))                                                                     \
	X(open, int, (const char *path, int flags, unsigned mode), (path, flags, mode))                                \
	X(stat, int, (const char *path, void *to), (path, to))                                                         \
	X(lstat, int, (const char *path, void *to), (path, to))                                                        \
	X(fstat, int, (int fd, void *to), (fd, to))                                                                    \
	X(access, int, (const char *path, int mode), (path, mode))                                                     \
	X(unlink, int, (const char *path), (path))                                                                     \
	/* Each is at most one call: a wait or a wake-up may need none. */                                             \
	X(pthread_cond_wait, int, (void *cond, void *mutex), (cond, mutex))                                            \
	X(pthread_cond_timedwait, int, (void *cond, void *mutex, const void *until), (cond, mutex, until))             \
	X(pthread_cond_signal, int, (void *cond), (cond))                                                              \
	X(pthread_cond_broadcast, int, (void *cond), (cond))

/* These are not wrapped like the others: looking them up would allocate. */
#define COUNTED_HEAP(X)                                                                                                \
	X(malloc)                                                                                                      \
	X(calloc)                                                                                                      \
	X(realloc)                                                                                                     \
	X(aligned_alloc)                                                                                               \
	X(memalign)                                                                                                    \
	X(posix_memalign)

/* X(name, ...) of all of them. */
#define COUNTED_ALL(X) COUNTED_WAITS(X) COUNTED_CALLS(X) COUNTED_HEAP(X)

#define ENTRY(name, ...) COUNTED_##name,
enum counted { COUNTED_ALL(ENTRY) COUNTED_END };
#undef ENTRY

struct counts {
	_Atomic uint64_t of[COUNTED_END];
};

#endif
