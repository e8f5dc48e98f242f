#include "pgsql/greeting.h"

#include <string.h>

#include "pgsql/wire.h"

static struct settings *overlay(struct settings *reported, const struct settings *wanted) {
	struct settings *merged = settings_ref(reported);

	for (size_t i = 0; merged && i < wanted->count; i++) {
		const struct setting *s = &wanted->at[i], *r = settings_find(reported, s->name);
		if (r && strcmp(r->value, s->value) == 0)
			continue;
		struct settings *more = settings_with(merged, r ? r->name : s->name, s->value, r && r->reported);
		settings_unref(merged);
		merged = more;
	}
	return merged;
}

/* The buffer is kept, so it is none of the worker's. False: out of memory; it is empty. */
static bool put_parameters(struct buf *out, const struct settings *settings) {
	struct pg_builder b = pg_builder(NULL);

	for (size_t i = 0; i < settings->count; i++) {
		if (!settings->at[i].reported)
			continue;
		pg_open(&b, 'S');
		pg_cstr(&b, settings->at[i].name);
		pg_cstr(&b, settings->at[i].value);
		pg_close(&b);
	}
	if (!b.ok)
		pg_builder_release(&b);
	*out = b.buf;
	return b.ok;
}

static void clear(struct pg_greeting *greeting) {
	settings_unref(greeting->reported);
	settings_unref(greeting->wanted);
	settings_unref(greeting->settings);
	buf_release(NULL, &greeting->messages);
	*greeting = (struct pg_greeting){0};
}

static struct pg_greeting *place_of(struct pg_greetings *greetings, const struct settings *reported,
				    const struct settings *wanted) {
	uint64_t mixed = ((uint64_t)(uintptr_t)reported * 31 + (uint64_t)(uintptr_t)wanted) * 0x9e3779b97f4a7c15ull;

	return &greetings->at[(mixed >> 32) % PG_GREETINGS];
}

const struct pg_greeting *pg_greeting(struct pg_greetings *greetings, struct settings *reported, struct settings *wanted) {
	struct pg_greeting *greeting = place_of(greetings, reported, wanted);

	if (greeting->reported == reported && greeting->wanted == wanted)
		return greeting;
	clear(greeting);
	struct settings *settings = overlay(reported, wanted);
	if (!settings)
		return NULL;
	*greeting = (struct pg_greeting){
		.reported = settings_ref(reported), .wanted = settings_ref(wanted), .settings = settings};
	if (put_parameters(&greeting->messages, settings))
		return greeting;
	clear(greeting);
	return NULL;
}

void pg_greetings_clear(struct pg_greetings *greetings) {
	for (int i = 0; i < PG_GREETINGS; i++)
		clear(&greetings->at[i]);
}
