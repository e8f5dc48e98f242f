/* Loaded into Forebay by LD_PRELOAD: counts calls of libc's functions; see counted.h. */
#include <dlfcn.h>
#include <stddef.h>

#include "counted.h"

/* No header of libc that declares what is defined here, as it would do so with other types. */
char *getenv(const char *name);
_Noreturn void abort(void);
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *old, size_t n);
void *__libc_memalign(size_t alignment, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *old, size_t n);
void *aligned_alloc(size_t alignment, size_t n);
void *memalign(size_t alignment, size_t n);
int posix_memalign(void **to, size_t alignment, size_t n);

enum { GET_NAME = 16, READ_WRITE = 2, PROTECTION = 3, SHARED = 1, NO_MEMORY = 12 };

static struct counts uncounted;
static struct counts *counts = &uncounted;

/* The beginning of the names of the threads that are counted; NULL: all are. */
static const char *threads;
static int (*real_prctl)(int what, long a, long b, long c, long d);

/* A thread gets its name from another one, a little after it has begun: until then it is looked at anew each time. */
static int is_counted(void) {
	static __thread int counted;
	char name[16] = "";

	if (!threads || counted)
		return 1;
	real_prctl(GET_NAME, (long)name, 0, 0, 0);
	for (int i = 0; threads[i]; i++)
		if (name[i] != threads[i])
			return 0;
	return counted = 1;
}

static void count(enum counted what) {
	if (is_counted())
		atomic_fetch_add_explicit(&counts->of[what], 1, memory_order_relaxed);
}

static void *find(const char *name) {
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		abort();
	return found;
}

/* The real one is looked up at the first call. */
#define WRAP(name, result, parameters, arguments)                                                                      \
	result name parameters;                                                                                        \
	result name parameters {                                                                                       \
		static result(*_Atomic real) parameters;                                                               \
                                                                                                                       \
		if (!real)                                                                                             \
			real = (result(*) parameters)find(#name);                                                      \
		count(COUNTED_##name);                                                                                 \
		return real arguments;                                                                                 \
	}
COUNTED_WAITS(WRAP)
COUNTED_CALLS(WRAP)

void *malloc(size_t n) {
	count(COUNTED_malloc);
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t size) {
	count(COUNTED_calloc);
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t n) {
	count(COUNTED_realloc);
	return __libc_realloc(old, n);
}

void *aligned_alloc(size_t alignment, size_t n) {
	count(COUNTED_aligned_alloc);
	return __libc_memalign(alignment, n);
}

void *memalign(size_t alignment, size_t n) {
	count(COUNTED_memalign);
	return __libc_memalign(alignment, n);
}

int posix_memalign(void **to, size_t alignment, size_t n) {
	void *got;

	count(COUNTED_posix_memalign);
	got = __libc_memalign(alignment, n);
	if (!got)
		return NO_MEMORY;
	*to = got;
	return 0;
}

__attribute__((constructor)) static void begin(void) {
	const char *path = getenv(COUNTER_FILE);
	int fd = path ? open(path, READ_WRITE, 0) : -1;
	void *map;

	if (fd < 0)
		return;
	real_prctl = (int (*)(int, long, long, long, long))find("prctl");
	threads = getenv(COUNTER_THREADS);
	map = mmap(NULL, sizeof(*counts), PROTECTION, SHARED, fd, 0);
	if (map != (void *)-1)
		counts = map;
	close(fd);
}
