#include "process.h"

#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "base/clock.h"
#include "base/log.h"
#include "net/inherited.h"

void process_harden(void) {
	struct rlimit none;

	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_CORE, &none) == 0) {
		none.rlim_cur = 0;
		setrlimit(RLIMIT_CORE, &none);
	}
	/* a sanitizer looks into its own process by ptrace() */
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

uint64_t process_raise_limit(void) {
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return UINT64_MAX;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}

/* ---- the user ---- */

bool process_become(const char *run_as, const struct pid_file *pid_file, struct error *error) {
	char name[128];
	const char *colon = strchr(run_as, ':');

	snprintf(name, sizeof name, "%.*s", (int)(colon ? colon - run_as : (long)strlen(run_as)), run_as);
	errno = 0;
	const struct passwd *user = getpwnam(name);
	if (!user)
		return error_set(error, errno, "run_as = %s: there is no system user \"%s\"", run_as, name);
	uid_t uid = user->pw_uid;
	gid_t gid = user->pw_gid;
	if (colon) {
		const struct group *group = getgrnam(colon + 1);
		if (!group)
			return error_set(error, errno, "run_as = %s: there is no system group \"%s\"", run_as, colon + 1);
		gid = group->gr_gid;
	}
	if (geteuid() == uid && getuid() == uid)
		return true;
	if (geteuid() != 0)
		return error_set(error, EPERM, "run_as = %s: only root can become another user; start as root, or as that user",
				 run_as);
	if (pid_file->fd >= 0 && fchown(pid_file->fd, uid, gid) != 0)
		return error_set(error, errno, "pid_file %s: cannot give it to run_as = %s: %s", pid_file->path, run_as,
				 strerror(errno));
	if (initgroups(name, gid) != 0 || setgid(gid) != 0 || setuid(uid) != 0)
		return error_set(error, errno, "run_as = %s: cannot become that user: %s", run_as, strerror(errno));
	if (uid != 0 && setuid(0) == 0)
		return error_set(error, 0, "run_as = %s: the system lets the process become root again", run_as);
#ifdef __linux__
	process_harden(); /* a change of user sets what may be dumped anew */
#endif
	return true;
}

/* ---- the pid file ---- */

/* What is in it must be a number, or we would take away somebody's file. */
static bool is_pid_file(int fd) {
	char text[32];
	ssize_t n = pread(fd, text, sizeof text, 0);

	if (n < 0 || n == (ssize_t)sizeof text)
		return false;
	for (ssize_t i = 0; i < n; i++)
		if (!isdigit((unsigned char)text[i]) && !isspace((unsigned char)text[i]))
			return false;
	return true;
}

/* Whether the path still names the file that we hold open. */
static bool is_still_there(int fd, const char *path) {
	struct stat held, named;

	return fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_dev == named.st_dev &&
	       held.st_ino == named.st_ino;
}

/* 1: ours and locked; 0: it was replaced meanwhile, try again; -1: `error` is set. */
static int take_file(int fd, const char *path, struct error *error) {
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		char text[32] = "";
		if (pread(fd, text, sizeof text - 1, 0) < 0)
			*text = 0;
		error_set(error, EEXIST, "pid_file %s: a Forebay runs already, as process %ld; stop it, or give this one a "
					 "pid_file of its own", path, atol(text));
		return -1;
	}
	if (!is_still_there(fd, path))
		return 0;
	if (!is_pid_file(fd)) {
		error_set(error, 0, "pid_file %s: there is a file that is no pid file; move it away", path);
		return -1;
	}
	if (ftruncate(fd, 0) != 0 || dprintf(fd, "%ld\n", (long)getpid()) < 0) {
		error_set(error, errno, "pid_file %s: cannot write: %s", path, strerror(errno));
		return -1;
	}
	return 1;
}

/*
 * The lock tells whether its process still runs: it is gone with the process, however that ended, and a process number
 * that the system has given to another process misleads nobody.
 */
bool pid_file_create(struct pid_file *file, const char *path, struct error *error) {
	file->fd = -1;
	if (strlen(path) >= sizeof file->path)
		return error_set(error, ENAMETOOLONG, "pid_file: the path is too long");
	snprintf(file->path, sizeof file->path, "%s", path);
	for (int attempt = 0; attempt < 10; attempt++) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd < 0)
			return error_set(error, errno, "pid_file %s: cannot open: %s", path, strerror(errno));
		int taken = take_file(fd, path, error);
		if (taken > 0) {
			file->fd = fd;
			return true;
		}
		close(fd);
		if (taken < 0)
			return false;
	}
	return error_set(error, 0, "pid_file %s: somebody keeps replacing it", path);
}

void pid_file_release(struct pid_file *file) {
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

void pid_file_remove(struct pid_file *file) {
	if (file->fd < 0)
		return;
	/* after run_as its folder may not be ours to write: then it is left, unlocked, and taken over by the next */
	if (is_still_there(file->fd, file->path) && unlink(file->path) != 0 && ftruncate(file->fd, 0) != 0)
		log_debug("pid_file", NULL, "cannot remove %s: %s", file->path, strerror(errno));
	close(file->fd);
	file->fd = -1;
}

/* ---- the service manager ---- */

bool process_is_watched(void) {
	return getenv("NOTIFY_SOCKET") != NULL;
}

/* One datagram to the socket that it names; "@" stands for the zero of an abstract name. */
void process_notify(const char *fmt, ...) {
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char text[512];
	va_list ap;

	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof un.sun_path)
		return;
	va_start(ap, fmt);
	int len = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	memcpy(un.sun_path, path, strlen(path));
	if (*path == '@')
		un.sun_path[0] = 0;
	socklen_t room = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + (*path == '/'));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	size_t size = len < (int)sizeof text ? (size_t)len : sizeof text - 1;
	if (fd < 0 || len < 0 || sendto(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&un, room) < 0)
		log_debug("notify_failed", NULL, "cannot tell the service manager at %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void process_notify_reloading(void) {
	process_notify("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_monotonic_ns() / NS_PER_US));
}

int process_take_sockets(void) {
	enum { FIRST = 3, MOST = 256 };
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	int n = pid && count && atol(pid) == (long)getpid() ? atoi(count) : 0, taken = 0;

	unsetenv("LISTEN_PID"); /* it is not for those that we start */
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	for (int i = 0; i < n && i < MOST; i++) {
		if (inherited_add(FIRST + i, true))
			taken++;
		else
			log_warning("socket_unusable", LOG_FIELDS(LOG_NUMBER("descriptor", FIRST + i)),
				    "descriptor %d, which the service manager has opened, is no listening stream socket", FIRST + i);
	}
	return taken;
}

/* ---- another one ---- */

pid_t process_spawn(const char *const *arguments, struct error *error) {
	extern char **environ;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	char path[4096];
	pid_t pid = 0;

	ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
	if (len <= 0) {
		error_set(error, errno, "cannot find this program's file: %s", strerror(errno));
		return 0;
	}
	path[len] = 0;
	/* it was replaced: the new one is at the same place */
	char *deleted = strstr(path, " (deleted)");
	if (deleted && deleted[strlen(" (deleted)")] == 0)
		*deleted = 0;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	int e = posix_spawn(&pid, path, NULL, &attributes, (char *const *)(uintptr_t)arguments, environ);
	posix_spawnattr_destroy(&attributes);
	if (e == 0)
		return pid;
	error_set(error, e, "cannot start %s: %s", path, strerror(e));
	return 0;
}
