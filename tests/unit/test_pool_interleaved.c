/*
 * The random walk of test_pool_random.c, with steps of other workers in the midst of one's: at every point between
 * two of the pool's atomic operations where it matters (POOL_TEST_POINT). So that what two threads may do to each
 * other within a few instructions happens here often, and again with the same seed. The pool is compiled in, with
 * those points: link no other.
 */
void sim_point(void);
#define POOL_TEST_POINT() sim_point()
#define BETWEEN_ONE_IN 6

#include "pool/audit.c"
#include "pool/conn.c"
#include "pool/exchange.c"
#include "pool/hosts.c"
#include "pool/keep.c"
#include "pool/open.c"
#include "pool/permits.c"
#include "pool/pool.c"
#include "pool/shard.c"
#include "pool/turns.c"
#include "pool/user.c"
#include "pool/waiter.c"
#include "pool/worth.c"

#include "pool_sim.c"
#include "test_pool_random.c"
